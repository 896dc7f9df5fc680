"""Google Cloud Storage on loopback, for Google's own client and for browsers.

In a test: ``with FakeGcs.serve(directory) as gcs`` (``tests.fakes.gcs.server``), a server in a thread of its own, since
the client is synchronous. From another process: ``python -m tests.fakes.gcs --dir DIR --bucket NAME`` with
``--cors-origin ORIGIN``. It prints ``{"url": …, "serviceAccount": …}`` and is controlled by ``/__log``, ``/__objects``,
``/__faults``, ``/__reset``, ``/__clock`` and ``/__permissions``. What it does not know it answers with 501.

What is stored and checked is meant to be as the service does it: preconditions at the end of an upload, V4 signatures
over what was really sent, the resumable protocol byte for byte, CORS by bucket or by the origin that began a session,
permissions an operation. Times are the real ones plus ``advance``; only a JWT assertion for a token is judged by the
real time, since it is the client that dates it. A signed URL is dated by who signs: sign first, then ``advance``.

Where the service's own behaviour was not seen, and the fake guesses. Build nothing on these:

- codes: ``EntityTooLarge`` and ``EntityTooSmall`` with 400 for x-goog-content-length-range, at the start already where
  X-Upload-Content-Length is out of it; ``BadDigest`` with 400 for hashes that differ; 400 ``InvalidArgument`` for
  X-Goog-Expires above a week; 403 ``SignatureDoesNotMatch`` for a signed header that is missing, for an x-goog- header
  that is not signed and for an account that is unknown; 403 ``RequestTimeTooSkewed`` for one dated in the future;
- a gap in a resumable upload is 503; a chunk that is not aligned is 400 and not cut down; a wrong Content-Range or size
  takes the whole request back and leaves the session usable; a total once accepted binds later requests;
- a session that ended in 412, in a hash or a size that is wrong, or by DELETE, answers 404 from then on;
- a body that breaks off leaves its whole units of 256 KiB; a second request takes the upload over from a first one;
- overwriting needs storage.objects.delete when the upload ends, not when its session starts;
- objects that were composed, or copied from such, have no md5Hash, and their XML ETag is not a digest;
- deleting what is missing is 404, whatever precondition came along; Range with several ranges is ignored;
- 304 for a read with ifGenerationNotMatch that matches; ETag of the JSON API without quotes;
- a preflight answers with the entry's own methods and response headers, and leaves it to the browser to compare them;
  requests to a session carry the origin that began it, whoever asks;
- an hour's token is refused to the second; the answer is 401 ``authError``.

Not faked: versions, soft-deleted objects, holds and retention, matchGlob, batch, notificationConfigs, ACLs and IAM
policies, HMAC and V2 signatures, signed policy documents, XML multipart uploads and listings, gzip transcoding,
customer keys, requester pays, quotas, generateIdToken, and 403 in place of 404 for who may not list.
"""
