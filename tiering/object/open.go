package object

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Config is what a store needs beyond its URL. The zero value works.
type Config struct {
	// CredentialsFile is an AWS-format file (sections, aws_access_key_id = ...);
	// Profile names its section, "default" if empty.
	CredentialsFile string
	Profile         string

	// RequestTimeout is how long a request may go without moving a byte, and the
	// fixed part of its deadline. Default 20 s: longer than S3's slowest healthy
	// answers, shorter than a reader's patience with two tries.
	RequestTimeout time.Duration
	// MinBytesPerSecond derives the rest of a request's deadline from its bytes.
	// Default 1 MiB/s: a tenth of what the slowest useful uplink gives.
	MinBytesPerSecond int64
	// MaxConns bounds connections to the store. Default 64: 8 uploads and 32 cold
	// reads in flight with room for metadata.
	MaxConns int

	Now func() time.Time // default time.Now
	Log *slog.Logger     // default slog.Default()
}

// withDefaults fills what is zero.
func (c Config) withDefaults() Config {
	if c.Profile == "" {
		c.Profile = "default"
	}
	if c.RequestTimeout <= 0 {
		c.RequestTimeout = 20 * time.Second
	}
	if c.MinBytesPerSecond <= 0 {
		c.MinBytesPerSecond = 1 << 20
	}
	if c.MaxConns <= 0 {
		c.MaxConns = 64
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// Open returns the store a URL names:
//
//	dir:///path
//	s3://bucket/prefix?endpoint=http://host:port&region=...&path_style=true&ca_file=...
//	mem://name        (one shared store per name and process)
//
// It asks nothing of a remote store, so that a broker starts while its bucket is
// away; Probe does. A faulty URL is ErrMisconfigured.
func Open(ctx context.Context, rawURL string, cfg Config) (Store, error) {
	cfg = cfg.withDefaults()
	u, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	switch u.Scheme {
	case "dir":
		path := u.Host + u.Path // dir://relative/path is accepted as well
		if path == "" {
			return nil, badURL("dir:// needs a path, as in dir:///var/lib/varve/bucket")
		}
		if err := onlyParams(u, nil); err != nil {
			return nil, err
		}
		return OpenDir(path, cfg)
	case "mem":
		if err := onlyParams(u, nil); err != nil {
			return nil, err
		}
		return sharedMem(u.Host+u.Path, cfg.Now), nil
	case "s3":
		s3cfg, err := parseS3(u)
		if err != nil {
			return nil, err
		}
		return openS3(s3cfg, cfg)
	default:
		return nil, badURL(fmt.Sprintf("scheme %q is not one of dir, s3, mem", u.Scheme))
	}
}

// parseURL never repeats the input in an error: people paste secrets into URLs.
func parseURL(raw string) (*url.URL, error) {
	if raw == "" {
		return nil, badURL("it is empty")
	}
	u, err := url.Parse(raw)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		if strings.Contains(raw, "@") {
			return nil, badURL("it does not parse; if it holds credentials, remove them")
		}
		return nil, badURL("it does not parse: " + err.Error())
	}
	if u.User != nil {
		return nil, badURL("it holds credentials; put them into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or the file that store.credentials.file names")
	}
	if u.Scheme == "" {
		return nil, badURL("it has no scheme; write dir:///path or s3://bucket/prefix?endpoint=...")
	}
	if u.Fragment != "" {
		return nil, badURL("it has a fragment (#...)")
	}
	return u, nil
}

func badURL(detail string) error {
	return &Error{Op: "open", Store: "store URL", Kind: ErrMisconfigured, Detail: detail}
}

// onlyParams refuses query parameters that nobody would read, since a typing
// error in one must not silently mean the default.
func onlyParams(u *url.URL, known []string) error {
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return badURL("its parameters do not parse")
	}
	for name, values := range q {
		ok := false
		for _, k := range known {
			ok = ok || k == name
		}
		switch {
		case !ok && len(known) == 0:
			return badURL(fmt.Sprintf("%s:// takes no parameters, found %q", u.Scheme, name))
		case !ok:
			return badURL(fmt.Sprintf("unknown parameter %q; known are %s", name, strings.Join(known, ", ")))
		case len(values) > 1:
			return badURL(fmt.Sprintf("parameter %q is given twice", name))
		}
	}
	return nil
}

// mems are the stores behind mem:// URLs. They live as long as the process, so
// that a broker which restarts inside a test finds its bucket again.
var mems struct {
	sync.Mutex
	byName map[string]*Mem
}

func sharedMem(name string, now func() time.Time) *Mem {
	mems.Lock()
	defer mems.Unlock()
	if mems.byName == nil {
		mems.byName = make(map[string]*Mem)
	}
	m := mems.byName[name]
	if m == nil {
		m = newNamedMem("mem://"+name, now)
		mems.byName[name] = m
	}
	return m
}
