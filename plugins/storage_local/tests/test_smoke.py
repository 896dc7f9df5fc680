import httpx2

from echo_core.plugin_api import BeginUpload, ReadUrl


async def test_upload_then_read(storage, http: httpx2.AsyncClient):
    data = bytes(range(256)) * 4096
    ticket = await storage.begin_upload(
        BeginUpload(key="videos/a/source/x.mp4", content_type="video/mp4", size_bytes=len(data))
    )
    half = 512 * 1024
    r = await http.put(ticket.url, content=data[:half], headers={"content-range": f"bytes 0-{half - 1}/{len(data)}"})
    assert (r.status_code, r.headers["range"]) == (308, f"bytes=0-{half - 1}"), r.text
    r = await http.put(
        ticket.url, content=data[half:], headers={"content-range": f"bytes {half}-{len(data) - 1}/{len(data)}"}
    )
    assert r.status_code == 200, r.text
    url = (await storage.read_url(ReadUrl(key="videos/a/source/x.mp4", expires_in_s=60))).url
    r = await http.get(url)
    assert r.content == data
    r = await http.get(url, headers={"range": "bytes=100-"})
    assert r.status_code == 206
    assert r.content == data[100:]
