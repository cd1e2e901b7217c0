package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Mode is how a server shuts down; the words are pg_ctl's.
type Mode string

// The shutdown modes.
const (
	Smart     Mode = "smart"     // wait until every client has gone, checkpoint
	Fast      Mode = "fast"      // end sessions, checkpoint
	Immediate Mode = "immediate" // end at once; the next start has to recover
)

func (m Mode) signal() (syscall.Signal, error) {
	switch m {
	case Smart:
		return syscall.SIGTERM, nil
	case Fast:
		return syscall.SIGINT, nil
	case Immediate:
		return syscall.SIGQUIT, nil
	}
	return 0, fmt.Errorf("%q is no shutdown mode: want smart, fast or immediate", string(m))
}

// Stop shuts the server on dataDir down and waits until its process has ended.
// If ctx ends first, the shutdown goes on without us. ErrNotRunning means that
// there was nothing to stop.
func Stop(ctx context.Context, dataDir string, mode Mode) error {
	sig, err := mode.signal()
	if err == nil {
		err = withServer(dataDir, func(p *process, _ Status) error {
			if err := p.signal(sig); err != nil {
				return err
			}
			return p.wait(ctx)
		})
	}
	if err != nil {
		return fmt.Errorf("stopping the server on %s: %w", dataDir, err)
	}
	return nil
}

// Reload makes the server read its configuration files again. That it does so
// some moments later, and that it may refuse what it reads, is seen in its log
// and in pg_settings only.
func Reload(dataDir string) error {
	err := withServer(dataDir, func(p *process, _ Status) error { return p.signal(syscall.SIGHUP) })
	if err != nil {
		return fmt.Errorf("reloading the server on %s: %w", dataDir, err)
	}
	return nil
}

// promoteFile asks for a promotion, together with SIGUSR1 (PROMOTE_SIGNAL_FILE, xlog.h).
const promoteFile = "promote"

// Promote ends recovery on a standby and waits until the server accepts
// writes. ErrNotStandby means that it does already.
func Promote(ctx context.Context, dataDir string) error {
	err := withServer(dataDir, func(p *process, st Status) error {
		if st.Primary {
			return ErrNotStandby
		}
		if err := askPromotion(dataDir, p); err != nil {
			return err
		}
		return awaitPrimary(ctx, dataDir, st.PID)
	})
	if err != nil {
		return fmt.Errorf("promoting the server on %s: %w", dataDir, err)
	}
	return nil
}

func askPromotion(dataDir string, p *process) error {
	name := filepath.Join(dataDir, promoteFile)
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := p.signal(syscall.SIGUSR1); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}

func awaitPrimary(ctx context.Context, dataDir string, pid int) error {
	for {
		st, err := Probe(dataDir)
		switch {
		case err != nil: // caught half written
		case !st.Running || st.PID != pid:
			return ErrNotRunning
		case st.Primary:
			return nil
		case st.State == StateStopping:
			return errors.New("it is shutting down")
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// withServer hands fn the running server of dataDir; ErrNotRunning if none is.
func withServer(dataDir string, fn func(*process, Status) error) error {
	st, err := Probe(dataDir)
	if err != nil {
		return err
	}
	if !st.Running {
		return ErrNotRunning
	}
	if st.Standalone {
		return ErrStandalone
	}
	p, err := openProcess(dataDir, st)
	if err != nil {
		return err
	}
	defer p.close()
	return fn(p, st)
}
