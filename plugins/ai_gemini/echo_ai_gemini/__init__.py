"""Gemini for Echo: see ``echo_ai_gemini.plugin``."""
