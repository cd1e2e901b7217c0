//go:build !linux

package cli

import "syscall"

// forgetHandler does nothing: the runtime ends the process by the signal too,
// after it has printed every goroutine.
func forgetHandler(syscall.Signal) {}
