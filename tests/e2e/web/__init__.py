"""The web application in a real browser, against a whole Echo."""
