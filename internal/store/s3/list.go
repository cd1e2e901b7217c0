package s3

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/salvor-dr/salvor/internal/store"
)

// List asks for the keys page by page, of 1000 at most.
func (s *Store) List(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		if err := store.ValidatePrefix(prefix); err != nil {
			yield(store.Object{}, err)
			return
		}
		for entry, err := range s.list(ctx, prefix, o) {
			if err == nil {
				err = context.Cause(ctx)
			}
			if err != nil {
				yield(store.Object{}, s.fail("listing", prefix+"*", err))
				return
			}
			if !yield(entry, nil) {
				return
			}
		}
	}
}

func (s *Store) list(ctx context.Context, prefix string, o store.ListOptions) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: s.bucket(), Prefix: s.keyIn(prefix)}
		if o.Delimited {
			in.Delimiter = aws.String("/")
		}
		if o.After != "" {
			in.StartAfter = s.keyIn(o.After)
		}
		last := ""
		for {
			entries, next, err := s.page(ctx, in)
			if err != nil {
				yield(store.Object{}, err)
				return
			}
			for _, e := range entries {
				switch {
				case e.Key == last && e.Prefix:
					continue // the objects under it are on two pages
				case e.Key <= last:
					yield(store.Object{}, fmt.Errorf("the place lists %.100q after %.100q: it does not keep the order of the keys", e.Key, last))
					return
				}
				last = e.Key
				if s.shown(e, prefix, o) && !yield(e, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			in.ContinuationToken, in.StartAfter = next, nil
		}
	}
}

// shown says whether an entry is an object of ours, or a prefix of some, that was
// asked for. What else is in the bucket is left out.
func (s *Store) shown(e store.Object, prefix string, o store.ListOptions) bool {
	return store.ValidateKey(strings.TrimSuffix(e.Key, "/")) == nil && strings.HasSuffix(e.Key, "/") == e.Prefix &&
		strings.HasPrefix(e.Key, prefix) && e.Key > o.After
}

// page asks for one page, and gives its entries in the order of their keys, and the
// token of the next one, if any.
func (s *Store) page(ctx context.Context, in *s3.ListObjectsV2Input) (entries []store.Object, next *string, err error) {
	var out *s3.ListObjectsV2Output
	err = s.try(ctx, func(ctx context.Context) (err error) {
		out, err = s.client.ListObjectsV2(ctx, in)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	for _, c := range out.Contents {
		key, ok := strings.CutPrefix(aws.ToString(c.Key), s.prefix)
		if !ok {
			return nil, nil, fmt.Errorf("the place lists %.100q, which is not under %q", aws.ToString(c.Key), s.prefix)
		}
		o, err := describe(key, c.Size, c.LastModified, c.ETag)
		if err != nil {
			return nil, nil, fmt.Errorf("%.100q: %w", key, err)
		}
		entries = append(entries, o)
	}
	for _, p := range out.CommonPrefixes {
		key, ok := strings.CutPrefix(aws.ToString(p.Prefix), s.prefix)
		if !ok {
			return nil, nil, fmt.Errorf("the place lists %.100q, which is not under %q", aws.ToString(p.Prefix), s.prefix)
		}
		entries = append(entries, store.Object{Key: key, Prefix: true})
	}
	slices.SortFunc(entries, func(a, b store.Object) int { return cmp.Compare(a.Key, b.Key) })
	if !aws.ToBool(out.IsTruncated) {
		return entries, nil, nil
	}
	if aws.ToString(out.NextContinuationToken) == "" {
		return nil, nil, errors.New("the place says that there is more, and not how to get it")
	}
	return entries, out.NextContinuationToken, nil
}
