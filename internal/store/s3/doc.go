// Package s3 is a store in a bucket of S3, or of a server that speaks S3.
//
//	s3://BUCKET/PREFIX?region=…&endpoint=https://HOST:PORT&path_style=true&ca_file=…&checksum=…
//
// An object is an object, its key behind the prefix, and its version the ETag. Of
// identical contents the ETag may be the same, so a content that comes back is not
// told from one that never left; locks hold a token for that.
//
// # What the place must do
//
// S3's words of 2025: conditions on PUT and CompleteMultipartUpload (If-None-Match,
// If-Match) and on DELETE (If-Match), strong consistency, lists in the order of the
// keys. AWS does, and versitygw, and not everything that calls itself compatible:
// many accept a condition and ignore it. Probe finds that out, and `salvor init`
// asks it. Directory buckets (S3 Express) do not list in order, and are refused by
// the probe.
//
// # Writing
//
// An object of at most a part (8 MiB) is one PUT. A larger one is a multipart
// upload, two parts under way while the third fills; it appears when it is
// completed, under the same conditions. Memory is what is buffered: up to three
// parts for each writer. Buffers are of blocks that a pool keeps.
//
// Each body is signed with its SHA-256, and goes with a CRC32C (or MD5) in a header,
// so what arrives is what was sent. The SDK's own default, a checksum behind a body
// in chunks ("aws-chunked"), is refused by many servers, and is off.
//
// # Retries, and replies that are lost
//
// One mechanism: each request is repeated on store.ErrUnavailable as retry.Policy
// says (ten attempts in a minute); the SDK repeats nothing. So a wrapper that
// repeats (store/retry) is not needed around this store.
//
// A PUT whose reply is lost may have published the object; its repetition then
// breaks its own condition. Therefore each object carries a token of its writer as
// metadata (x-amz-meta-salvor-write): after a lost reply, the object there is looked
// at, and if the token is ours the commit has succeeded. If it is not, the outcome is
// unknown, and the error says so; store.ErrExists and store.ErrChanged are only
// returned when nothing was published.
//
// # Reading
//
// A range is one GET, whose reply must be exactly that range. A body that breaks off
// is gone on with by another GET, If-Match the first one's ETag, as long as it makes
// progress; the bytes of two objects are never mixed.
//
// # Absence
//
// The reply to HEAD is a bare 404, also when the bucket is missing or something
// between us and S3 says it. So absence is asked for with GET, whose reply names it
// (NoSuchKey). That needs the permission s3:ListBucket: without it AWS says 403 for
// objects that are missing, which is store.ErrPermission.
//
// # Deleting
//
// A version is deleted by DELETE with If-Match: AWS (since September 2025) and
// versitygw compare and delete in one step. versitygw calls deleting what is not
// there a success whatever the condition, so the version is also looked at before;
// in the moment between, somebody else may have deleted the object, and then both
// have. In a bucket with versions a delete leaves the old version behind a marker.
//
// # Time
//
// Nothing waits for ever. Connecting and the handshake are bounded, and so is each
// silence in which no byte moves either way (a minute), also in the middle of a body.
// A slow network is not silent.
package s3
