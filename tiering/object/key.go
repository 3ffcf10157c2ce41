package object

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxKeyBytes leaves 124 bytes of S3's 1024 for the store's own prefix.
	maxKeyBytes = 900
	// maxKeySegmentBytes is what a file name may have on every file system in use.
	maxKeySegmentBytes = 255
	// reservedPrefix begins names that belong to the dir store itself. No Kafka
	// topic name can hold the tilde, so no key of ours collides with it.
	reservedPrefix = ".tmp~"
)

// CheckKey reports why key cannot name an object, nil if it can. All stores
// take the same keys, so that data can move between them: relative slash-separated
// paths without empty, "." or ".." segments or control characters.
func CheckKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: empty", ErrInvalidKey)
	}
	if len(key) > maxKeyBytes {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrInvalidKey, len(key), maxKeyBytes)
	}
	if !utf8.ValidString(key) {
		return fmt.Errorf("%w: %q is not UTF-8", ErrInvalidKey, key)
	}
	for _, r := range key {
		if r < 0x20 || r == 0x7f || r == '\\' {
			return fmt.Errorf("%w: %q holds the character %q", ErrInvalidKey, key, r)
		}
	}
	for seg := range strings.SplitSeq(key, "/") {
		switch {
		case seg == "" || seg == "." || seg == "..":
			return fmt.Errorf("%w: %q has the path element %q", ErrInvalidKey, key, seg)
		case len(seg) > maxKeySegmentBytes:
			return fmt.Errorf("%w: %q has a path element over %d bytes", ErrInvalidKey, key, maxKeySegmentBytes)
		case strings.HasPrefix(seg, reservedPrefix):
			return fmt.Errorf("%w: %q has a path element that begins with %s", ErrInvalidKey, key, reservedPrefix)
		}
	}
	return nil
}

// checkPrefix refuses prefixes that are neither empty, nor a key, nor a key's
// beginning up to a slash: stores differ in what they answer to those.
func checkPrefix(store, prefix string) error {
	if prefix == "" || CheckKey(prefix) == nil || strings.HasSuffix(prefix, "/") && CheckKey(prefix+"x") == nil {
		return nil
	}
	return &Error{
		Op: OpList, Store: store, Kind: ErrInvalidKey,
		Detail: fmt.Sprintf("%q is not the beginning of a key", prefix),
	}
}

// checkKey is CheckKey as a store's error.
func checkKey(op Op, store, key string) error {
	if err := CheckKey(key); err != nil {
		return &Error{Op: op, Store: store, Key: "", Kind: ErrInvalidKey, Err: err, Detail: err.Error()}
	}
	return nil
}

// checkPut is what every Put checks before it touches anything.
func checkPut(store, key string, body Body) error {
	if err := checkKey(OpPut, store, key); err != nil {
		return err
	}
	if body.Size < 0 || (body.Reader == nil && body.Size > 0) {
		return &Error{
			Op: OpPut, Store: store, Key: key, Kind: ErrMisconfigured,
			Detail: fmt.Sprintf("body of %d bytes without a reader", body.Size),
		}
	}
	return nil
}

// checkGet is what every GetRange checks before it touches anything.
func checkGet(store, key string, off int64) error {
	if err := checkKey(OpGet, store, key); err != nil {
		return err
	}
	if off < 0 {
		return &Error{
			Op: OpGet, Store: store, Key: key, Kind: ErrBadRange,
			Detail: fmt.Sprintf("offset %d is negative", off),
		}
	}
	return nil
}
