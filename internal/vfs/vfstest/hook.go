package vfstest

import "sync/atomic"

// Op is a kind of operation.
type Op string

// The operations. OpOpen is an opening without O_CREATE, OpCreate one with it.
const (
	OpOpen       Op = "open"
	OpCreate     Op = "create"
	OpMkdir      Op = "mkdir"
	OpRemove     Op = "remove"
	OpRename     Op = "rename"
	OpNoReplace  Op = "rename-noreplace"
	OpStat       Op = "stat"
	OpReadDir    Op = "readdir"
	OpRead       Op = "read"
	OpWrite      Op = "write"
	OpSync       Op = "sync"
	OpTruncate   Op = "truncate"
	OpSetModTime Op = "setmodtime"
	OpFileStat   Op = "fstat"
	OpLock       Op = "lock"
	OpClose      Op = "close"
)

// Changes says whether the operation changes the file system, or what of it is
// durable.
func (o Op) Changes() bool {
	switch o {
	case OpCreate, OpMkdir, OpRemove, OpRename, OpNoReplace, OpWrite, OpSync, OpTruncate, OpSetModTime:
		return true
	}
	return false
}

// Call is an operation about to be done.
type Call struct {
	Op   Op
	Name string // of a file that was renamed since it was opened, the name at its opening
	New  string // the new name of a rename
	// Len is the number of bytes of a read or write. A hook may lower it: then
	// so many are read or written, and the error of the hook is returned. (A
	// write that is short without an error gets io.ErrShortWrite.)
	Len int
}

// Hook is called before each operation. It may run operations of its own, for
// which it is called again. An error is returned by the operation, which then
// does nothing, but for the bytes of a shortened read or write. A Close that
// fails has closed the file all the same, as close(2) does on Linux.
type Hook func(*Call) error

// FailNth fails the nth operation, counted from 1, for which match holds, with
// err. A nil match holds for every one.
func FailNth(n int, match func(*Call) bool, err error) Hook {
	var count atomic.Int64
	return func(c *Call) error {
		if match != nil && !match(c) {
			return nil
		}
		if count.Add(1) != int64(n) {
			return nil
		}
		if c.Op == OpWrite || c.Op == OpRead {
			c.Len = 0
		}
		return err
	}
}
