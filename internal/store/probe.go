package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Probe tries the promises of this contract that a backend cannot keep by itself
// and must get from its place, with a few small objects under key, which must be
// new. What it wrote is deleted at the end. Where a promise is broken the error is
// ErrUnsafe and says which one; any other error means that nothing is proven. For
// backends, to build Prober on.
func Probe(ctx context.Context, s Store, key string) error {
	p := &probe{s: s, key: key}
	err := p.run(ctx)
	for _, k := range []string{p.key + "/a", p.key + "/b/c"} {
		if derr := s.Delete(context.WithoutCancel(ctx), k, ""); derr != nil && err == nil {
			err = derr
		}
	}
	if err != nil {
		return fmt.Errorf("probing %s: %w", s, err)
	}
	return nil
}

// probe is a Probe under way.
type probe struct {
	s   Store
	key string
}

func (p *probe) run(ctx context.Context) error {
	for _, step := range []func(context.Context) error{p.conditions, p.ranges, p.list, p.delete} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func breaks(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsafe, fmt.Sprintf(format, args...))
}

const probeText = "0123456789"

// put writes an object and compares the outcome with what must come of it: an
// object, or an error of kind want.
func (p *probe) put(ctx context.Context, data string, o CreateOptions, want error, broken string) (Object, error) {
	made, err := Put(ctx, p.s, p.key+"/a", []byte(data), o)
	switch {
	case want == nil || err != nil && !errors.Is(err, want):
		return made, err
	case err == nil:
		return made, breaks("%s", broken)
	}
	return made, nil
}

func (p *probe) conditions(ctx context.Context) error {
	_, err := p.put(ctx, "x", CreateOptions{IfMatch: "0"}, ErrChanged,
		"it replaces an object, only if that has a given version, where there is none")
	if err != nil {
		return err
	}
	first, err := p.put(ctx, "first", CreateOptions{IfAbsent: true}, nil, "")
	if err != nil {
		return err
	}
	if _, err := p.put(ctx, "second", CreateOptions{IfAbsent: true}, ErrExists,
		"it overwrites an object that was to be created only if absent"); err != nil {
		return err
	}
	if _, err := p.put(ctx, "second", CreateOptions{IfMatch: first.Version + "0"}, ErrChanged,
		"it replaces an object whose version is not the one that was given"); err != nil {
		return err
	}
	second, err := p.put(ctx, probeText, CreateOptions{IfMatch: first.Version}, nil, "")
	if errors.Is(err, ErrChanged) {
		return breaks("it does not replace an object whose version is the one that was given")
	}
	if err != nil {
		return err
	}
	if first.Version == second.Version {
		return breaks("two contents have one version, %s", first.Version)
	}
	_, err = p.put(ctx, "third", CreateOptions{IfMatch: first.Version}, ErrChanged,
		"it replaces an object whose version is no more the one that was given")
	return err
}

func (p *probe) ranges(ctx context.Context) error {
	for _, c := range []struct {
		offset, length int64
		want           string
	}{{0, -1, probeText}, {3, 4, probeText[3:7]}, {9, 1, probeText[9:]}, {7, -1, probeText[7:]}} {
		got, err := p.read(ctx, c.offset, c.length)
		if err != nil {
			return err
		}
		if string(got) != c.want {
			return breaks("of %q it reads %q where %q was asked for", probeText, got, c.want)
		}
	}
	return nil
}

func (p *probe) read(ctx context.Context, offset, length int64) ([]byte, error) {
	r, err := p.s.Open(ctx, p.key+"/a", offset, length)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	_, err = b.ReadFrom(io.LimitReader(r, int64(2*len(probeText))))
	return b.Bytes(), errors.Join(err, r.Close())
}

func (p *probe) list(ctx context.Context) error {
	if _, err := Put(ctx, p.s, p.key+"/b/c", nil, CreateOptions{}); err != nil {
		return err
	}
	for _, c := range []struct {
		o    ListOptions
		want []string
	}{
		{ListOptions{}, []string{"/a", "/b/c"}},
		{ListOptions{Delimited: true}, []string{"/a", "/b/"}},
		{ListOptions{After: p.key + "/a"}, []string{"/b/c"}},
	} {
		var got []string
		for entry, err := range p.s.List(ctx, p.key+"/", c.o) {
			if err != nil {
				return err
			}
			got = append(got, entry.Key[len(p.key):])
		}
		if !slices.Equal(got, c.want) {
			return breaks("its list shows %q where %q are (delimited: %v, after: %q)", got, c.want, c.o.Delimited, c.o.After)
		}
	}
	return nil
}

func (p *probe) delete(ctx context.Context) error {
	here, err := p.s.Stat(ctx, p.key+"/a")
	if err != nil {
		return err
	}
	err = p.s.Delete(ctx, here.Key, here.Version+"0")
	if err == nil {
		return breaks("it deletes an object whose version is not the one that was given")
	}
	if !errors.Is(err, ErrChanged) {
		return err
	}
	if err := p.s.Delete(ctx, here.Key, here.Version); err != nil {
		return err
	}
	if _, err := p.s.Stat(ctx, here.Key); err == nil {
		return breaks("an object that was deleted is still there")
	} else if !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}
