package datadir

import "fmt"

// WalkOptions say whose data directory is walked.
type WalkOptions struct {
	// Major and CatalogVersion are the cluster's own, from pg_control: they name
	// its directory inside each tablespace. Required.
	Major          int
	CatalogVersion uint32

	// Exclude are paths relative to the data directory, with slashes, that are
	// left out beside the Rules: a file, or a directory with everything in it.
	Exclude []string

	// Skipped is told what can not be part of a backup: sockets, pipes, devices,
	// and links that are not followed. May be nil.
	Skipped func(path, reason string)
}

func (o WalkOptions) validate() error {
	if o.Major <= 0 || o.CatalogVersion == 0 {
		return fmt.Errorf("walk options lack the major (%d) or catalog version (%d)", o.Major, o.CatalogVersion)
	}
	return nil
}
