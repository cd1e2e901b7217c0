package s3

import "github.com/salvor-dr/salvor/internal/store"

// WaitForParts waits until the parts that a writer has begun to send are there.
func WaitForParts(w store.Writer) { w.(*writer).upload.wg.Wait() }
