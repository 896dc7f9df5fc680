"""The Gemini API and Vertex AI on loopback, for google-genai's own client.

In a test: ``with FakeGemini.serve() as gemini`` (``tests.fakes.gemini.server``). From another process:
``python -m tests.fakes.gemini``; it prints ``{"url": …}`` and is controlled by ``/__log``, ``/__faults``, ``/__files``,
``/__script`` and ``/__reset``. What it does not know it answers with 501.

Answers are derived from what was sent: what is heard comes from the script that the test gave, cut to the part that
the sound says it is, or from a hash of its bytes; everything else from the schema of the answer and the texts of the
prompt. Field names are taken in snake and in camel case, as the client mixes them. Tokens: 32 a second of sound, 70
more a second of picture, 258 an image, one for each four bytes of text.

How long a sound or film lasts is declared: a first line of JSON (``{"start_s": 0, "end_s": 600}``), else the last
granule of an Ogg file, else a minute.

Where the service's own behaviour was not seen, and the fake guesses. Build nothing on these:

- the answer for an unknown or expired file is 403 ``PERMISSION_DENIED``; a file that is used early draws 400
  ``FAILED_PRECONDITION``;
- what is refused with a status of 400 and above takes no tokens;
- a prompt that is blocked is counted with its input, and a stopped answer with what was written so far.

Not faked: tools, cached contents, batches, the Live and Interactions APIs, thoughts as parts, resuming an upload.
"""
