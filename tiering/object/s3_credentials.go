package object

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	// metadataTimeout bounds one question to the instance metadata service, which
	// answers in milliseconds where there is one.
	metadataTimeout = 2 * time.Second
	// credentialsRecheck is how often the credentials file is looked at for a change.
	credentialsRecheck = 10 * time.Second
)

// chain finds credentials: environment, then the configured file, then the role
// of the instance or container. The first place that has any decides; a place
// that is half filled in is an error, never skipped.
type chain struct {
	file, profile string
	iam           *credentials.IAM
	now           func() time.Time

	mu struct {
		sync.Mutex
		source  string // "env", "file", "iam"; empty before the first success
		modTime time.Time
		looked  time.Time
	}
}

func newCredentials(cfg Config) *credentials.Credentials {
	client := &http.Client{
		Timeout: metadataTimeout,
		Transport: &http.Transport{
			Proxy:             nil, // link-local addresses are not behind a proxy
			DialContext:       (&net.Dialer{Timeout: metadataTimeout}).DialContext,
			DisableKeepAlives: true,
		},
	}
	return credentials.New(&chain{
		file: cfg.CredentialsFile, profile: cfg.Profile, now: cfg.Now,
		iam: &credentials.IAM{Client: client},
	})
}

// credentialsError says which places were asked. It holds no secret.
type credentialsError struct {
	where string
	err   error
}

func (e *credentialsError) Error() string { return "credentials: " + e.where + ": " + e.err.Error() }
func (e *credentialsError) Unwrap() error { return e.err }
func (e *credentialsError) hint() string {
	return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name an AWS-format file in store.credentials.file, or give this machine a role"
}

// Retrieve asks the places in order.
func (c *chain) Retrieve() (credentials.Value, error) { return c.RetrieveWithCredContext(nil) }

// RetrieveWithCredContext asks the places in order.
func (c *chain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.source = ""
	id, secret := os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY")
	if id != "" || secret != "" {
		if id == "" || secret == "" {
			return credentials.Value{}, &credentialsError{
				"environment", errors.New("only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"),
			}
		}
		c.mu.source = "env"
		return credentials.Value{
			AccessKeyID: id, SecretAccessKey: secret,
			SessionToken: os.Getenv("AWS_SESSION_TOKEN"), SignerType: credentials.SignatureV4,
		}, nil
	}
	if c.file != "" {
		return c.fromFileLocked()
	}
	v, err := c.iam.RetrieveWithCredContext(cc)
	if err == nil && (v.AccessKeyID == "" || v.SecretAccessKey == "") {
		err = errors.New("the role gave no keys")
	}
	if err != nil {
		return credentials.Value{}, &credentialsError{
			"none in the environment, no store.credentials.file, and no instance role", withoutURL(err),
		}
	}
	c.mu.source = "iam"
	return v, nil
}

func (c *chain) fromFileLocked() (credentials.Value, error) {
	st, err := os.Stat(c.file)
	if err != nil {
		return credentials.Value{}, &credentialsError{"file " + c.file, bare(err)}
	}
	p := &credentials.FileAWSCredentials{Filename: c.file, Profile: c.profile}
	v, err := p.RetrieveWithCredContext(nil)
	if err != nil {
		var pe *fs.PathError
		if !errors.As(err, &pe) {
			// A parser's message may repeat the line, and the line may be a key.
			err = fmt.Errorf("it does not parse, or has no section [%s]", c.profile)
		}
		return credentials.Value{}, &credentialsError{"file " + c.file, bare(err)}
	}
	if v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return credentials.Value{}, &credentialsError{
			"file " + c.file,
			fmt.Errorf("section [%s] lacks aws_access_key_id or aws_secret_access_key", c.profile),
		}
	}
	v.SignerType = credentials.SignatureV4
	c.mu.source, c.mu.modTime, c.mu.looked = "file", st.ModTime(), c.now()
	return v, nil
}

func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// IsExpired reports whether credentials must be fetched anew: role credentials
// near their end, or a file that was written since.
func (c *chain) IsExpired() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.mu.source {
	case "env":
		return false
	case "iam":
		return c.iam.IsExpired()
	case "file":
		now := c.now()
		if now.Sub(c.mu.looked) < credentialsRecheck {
			return false
		}
		c.mu.looked = now
		st, err := os.Stat(c.file)
		return err == nil && !st.ModTime().Equal(c.mu.modTime)
	default:
		return true
	}
}
