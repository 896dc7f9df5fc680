"""Examples for the OpenAPI document. Ids and times are made up, and the same everywhere."""

from __future__ import annotations

VIDEO_ID = "0198f3c2-7b1e-7c3a-9d52-1f0e6a4b8c21"
JOB_ID = "0198f3c4-1a2b-7d4e-8f60-5c9d3e7a1b42"
STORAGE_PATH = f"videos/{VIDEO_ID}/source/holiday.mp4"
AT = "2026-03-14T15:09:26Z"
TOKEN = "v1.playback-token"  # noqa: S105 - an example
STREAM = f"https://echo.example/api/v1/stream/video/{VIDEO_ID}"

UPLOAD_REQUEST = {"filename": "holiday.mp4", "contentType": "video/mp4", "sizeBytes": 52428800}
UPLOAD_TARGET = {
    "protocol": "google-resumable",
    "method": "PUT",
    "headers": {"Content-Type": "video/mp4"},
    "chunkSizeBytes": 8388608,
    "expiresAt": "2026-03-15T15:09:26Z",
}
UPLOAD = {
    "videoId": VIDEO_ID,
    "uploadUrl": "https://echo.example/plugins/storage_local/upload/example?signature=example",
    "storagePath": STORAGE_PATH,
    "upload": UPLOAD_TARGET,
}
COMPLETE_REQUEST = {
    "videoId": VIDEO_ID,
    "originalFilename": "holiday.mp4",
    "storagePath": STORAGE_PATH,
    "contentType": "video/mp4",
    "sizeBytes": 52428800,
    "checksum": "crc32c:0a1b2c3d",
}
COMPLETED = {"videoId": VIDEO_ID, "jobId": JOB_ID, "status": "processing"}
RESUMED = {
    "videoId": VIDEO_ID,
    "storagePath": STORAGE_PATH,
    "offsetBytes": 16777216,
    "complete": False,
    "uploadUrl": UPLOAD["uploadUrl"],
    "upload": UPLOAD_TARGET,
}
VIDEO_ITEM = {
    "videoId": VIDEO_ID,
    "status": "playable",
    "title": "holiday",
    "filename": "holiday.mp4",
    "visibility": "private",
    "createdAt": AT,
    "updatedAt": AT,
    "durationSeconds": 62.5,
    "width": 1920,
    "height": 1080,
    "sizeBytes": 52428800,
    "playable": True,
    "posterUrl": f"{STREAM}/poster.jpg?token={TOKEN}",
    "jobId": JOB_ID,
    "percent": 41.5,
}
INSTANCE = {
    "name": "Echo",
    "version": "0.1.0",
    "publicUrl": "https://echo.example",
    "auth": {"url": "https://abcdefgh.supabase.co", "key": "sb_publishable_example"},
    "upload": {"maxSizeBytes": 68719476736, "expiresInSeconds": 86400},
    "ai": {
        "transcribe": ["local"],
        "describe": ["gemini", "local"],
        "translate": ["gemini"],
        "embed": [],
        "translateTo": ["de"],
        "acceptSuggestions": True,
    },
}
VIDEO_LIST = {"items": [VIDEO_ITEM], "nextCursor": "AZjzwnsefDqdUh8OakuMIQ"}
SEARCH_RESULTS = {
    "items": [
        {
            "videoId": VIDEO_ID,
            "title": "A holiday in Lisbon",
            "titleParts": [{"text": "A holiday in ", "match": False}, {"text": "Lisbon", "match": True}],
            "status": "ready",
            "posterUrl": f"{STREAM}/poster.jpg?token={TOKEN}",
            "durationSeconds": 62.5,
            "createdAt": AT,
            "score": 1.0,
            "matched": ["title", "speech"],
            "hits": [
                {
                    "startSeconds": 12.4,
                    "endSeconds": 21.0,
                    "track": "auto-en",
                    "parts": [{"text": "we came to ", "match": False}, {"text": "Lisbon", "match": True}],
                }
            ],
        }
    ],
    "nextCursor": None,
    "semantic": False,
}
STEP = {
    "name": "ladder",
    "state": "running",
    "attempt": 1,
    "percent": 35.0,
    "optional": False,
    "startedAt": AT,
    "finishedAt": None,
    "error": None,
    "skippedReason": None,
    "warnings": [],
}
JOB = {
    "jobId": JOB_ID,
    "videoId": VIDEO_ID,
    "state": "running",
    "percent": 41.5,
    "etaSeconds": 38.0,
    "queuePosition": None,
    "cancelRequested": False,
    "createdAt": AT,
    "finishedAt": None,
    "error": None,
    "steps": [STEP],
}
METADATA_REQUEST = {
    "title": "A week by the sea",
    "description": "Family holiday.",
    "tags": ["sea", "family"],
    "language": "en",
    "visibility": "private",
    "poster": "poster-2",
    "chapters": [{"startSeconds": 0, "title": "Arrival"}, {"startSeconds": 31.5, "title": "The storm"}],
}
VIDEO = {
    "videoId": VIDEO_ID,
    "status": "playable",
    **METADATA_REQUEST,
    "editedFields": ["chapters", "description", "poster", "tags", "title"],
    "version": 2,
    "filename": "holiday.mp4",
    "contentType": "video/mp4",
    "sizeBytes": 52428800,
    "durationSeconds": 62.5,
    "width": 1920,
    "height": 1080,
    "createdAt": AT,
    "updatedAt": AT,
}
CAPTION = {
    "name": "auto-en",
    "url": f"{STREAM}/captions/auto-en.vtt?token={TOKEN}",
    "srtUrl": f"{STREAM}/captions/auto-en.srt?token={TOKEN}",
    "source": "transcribed",
    "automatic": True,
    "edited": False,
    "provider": "local",
    "version": 1,
    "language": "en",
    "title": "",
    "forced": False,
}
CAPTION_LIST = {"items": [CAPTION]}
CAPTION_TRACK = {
    "name": "auto-en",
    "language": "en",
    "title": "",
    "forced": False,
    "source": "transcribed",
    "edited": False,
    "provider": "local",
    "model": "whisper-base",
    "version": 1,
    "updatedAt": AT,
    "cues": [{"startSeconds": 0.4, "endSeconds": 2.9, "text": "We went to the lake\nthis morning."}],
}
CAPTIONS_UPLOAD = {"language": "de", "text": "WEBVTT\n\n00:00.400 --> 00:02.900\nHeute Morgen waren wir am See."}
CAPTIONS_CHANGE = {"cues": CAPTION_TRACK["cues"]}
AI_TOTALS = {"calls": 2, "inputTokens": 4200, "outputTokens": 610, "mediaSeconds": 62.5, "costUsd": 0.0054}
AI_CALL = {
    "step": "describe",
    "capability": "describe",
    "provider": "gemini",
    "model": "gemini-3.8-flash",
    "promptVersion": "1",
    "inputTokens": 2200,
    "outputTokens": 510,
    "mediaSeconds": 0.0,
    "costUsd": 0.0036,
    "state": "settled",
    "at": AT,
}
VIDEO_AI_USAGE = {"items": [AI_CALL], "totals": AI_TOTALS}
AI_USAGE = {
    "today": AI_TOTALS,
    "days": [
        {
            **AI_TOTALS,
            "date": "2026-03-14",
            "byProvider": [{**AI_TOTALS, "provider": "gemini", "model": "gemini-3.8-flash"}],
        }
    ],
    "budgetPerDayUsd": 10.0,
    "budgetPerVideoUsd": 1.0,
}
SUGGESTION = {
    "id": "0198f3c9-4c1d-7a2b-8e3f-6b5a4c3d2e1f",
    "field": "title",
    "value": "A morning at the lake",
    "current": "holiday",
    "state": "pending",
    "provider": "local",
    "model": "extractive-1",
    "promptVersion": "1",
    "evidence": [{"startSeconds": 0.4, "endSeconds": 2.9}],
    "costUsd": 0.0,
    "locked": False,
    "auto": False,
    "createdAt": AT,
    "decidedAt": None,
}
SUGGESTION_LIST = {"items": [SUGGESTION]}
VIDEO_DETAILS = {
    **VIDEO,
    "playable": True,
    "playbackUrl": f"{STREAM}/master.m3u8?token={TOKEN}",
    "posterUrl": f"{STREAM}/posters/poster-2.jpg?token={TOKEN}",
    "previewUrl": f"{STREAM}/preview.webp?token={TOKEN}",
    "storyboardUrl": None,
    "sourceUrl": f"{STREAM}?token={TOKEN}",
    "job": JOB,
    "uploadProblem": None,
    "media": {
        "container": "mov,mp4",
        "durationSeconds": 62.5,
        "bitrateBps": 6700000,
        "video": {
            "codec": "h264",
            "width": 1920,
            "height": 1080,
            "fps": 30.0,
            "bitrateBps": 6500000,
            "rotationDeg": 0,
            "hdr": False,
        },
        "audio": [
            {
                "codec": "aac",
                "channels": 2,
                "sampleRateHz": 48000,
                "bitrateBps": 128000,
                "language": "en",
                "title": "English",
            }
        ],
        "warnings": [],
    },
    "renditions": [
        {
            "name": "720p",
            "type": "video",
            "codecs": "avc1.64001f",
            "width": 1280,
            "height": 720,
            "fps": 30.0,
            "peakBitrateBps": 3100000,
            "averageBitrateBps": 2400000,
            "durationSeconds": 62.5,
            "sizeBytes": 18750000,
            "copied": False,
            "language": None,
            "title": None,
        }
    ],
    "posters": [
        {
            "name": f"poster-{number}",
            "url": f"{STREAM}/posters/poster-{number}.jpg?token={TOKEN}",
            "atSeconds": at_s,
            "width": 1280,
            "height": 720,
            "chosen": number == 2,
        }
        for number, at_s in ((1, 5.25), (2, 15.5))
    ],
    "captions": [CAPTION],
    "suggestions": [SUGGESTION],
    "ai": AI_TOTALS,
    "publications": [],
}
WATCH_PAGE = {
    **{
        name: VIDEO[name]
        for name in (
            "videoId",
            "title",
            "description",
            "tags",
            "language",
            "chapters",
            "durationSeconds",
            "width",
            "height",
            "createdAt",
        )
    },
    "visibility": "public",
    **{name: VIDEO_DETAILS[name] for name in ("playbackUrl", "posterUrl", "previewUrl", "storyboardUrl", "captions")},
}
PLUGINS = {
    "items": [
        {
            "name": "storage_local",
            "version": "0.1.0",
            "status": "loaded",
            "reason": "",
            "selected": True,
            "provides": {"storage": ["local"], "routes": ["upload"]},
            "capabilities": {},
        }
    ]
}
READINESS = {
    "status": "ready",
    "checks": [{"name": "database", "ok": True, "required": True, "durationMs": 1.2, "error": ""}],
}
MASTER_PLAYLIST = """#EXTM3U
#EXT-X-VERSION:7
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="audio",NAME="Original",DEFAULT=YES,AUTOSELECT=YES,CHANNELS="2",URI="renditions/audio.m3u8?token=v1.playback-token"
#EXT-X-STREAM-INF:BANDWIDTH=3228000,AVERAGE-BANDWIDTH=2528000,CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720,FRAME-RATE=30.000,AUDIO="audio"
renditions/720p.m3u8?token=v1.playback-token
"""
