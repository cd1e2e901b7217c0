// Package open turns the URL of a store into the store. It is the only place
// that knows every backend, and which of them repeats by itself what the place could
// not do for the moment; the others are given store/retry.
//
//	file:///absolute/path                a directory (store/file)
//	s3://bucket/prefix?region=…          a bucket of S3 or what speaks it (store/s3)
//	    &endpoint=https://host:port      the server, where it is not Amazon's
//	    &path_style=true                 the bucket stands in the path: the default with an endpoint
//	    &ca_file=/path.pem               authorities to trust beside the system's
//	    &checksum=crc32c|md5|none        what goes with each body; crc32c if not said
package open
