package object

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOpenRefusesFaultyURLs(t *testing.T) {
	for raw, says := range map[string]string{
		"":                                      "empty",
		"/var/lib/bucket":                       "no scheme",
		"gs://bucket":                           `"gs" is not one of`,
		"dir://":                                "needs a path",
		"dir:///x?endpoint=y":                   "takes no parameters",
		"mem://x?a=b":                           "takes no parameters",
		"s3://":                                 "no bucket",
		"s3://UPPER":                            "UPPER",
		"s3://b/p":                              "b",
		"s3://bucket/a/../b":                    "prefix",
		"s3://bucket/p?regoin=":                 "unknown parameter \"regoin\"",
		"s3://bucket/p?region=a&region=b":       "twice",
		"s3://bucket/p?path_style=maybe":        "neither true nor false",
		"s3://bucket/p?endpoint=localhost:9000": "endpoint",
		"s3://bucket/p?endpoint=ftp://h":        "http://host:port",
		"s3://bucket/p?endpoint=http://h:1/bucket":           "has a path",
		"s3://bucket/p?ca_file=/does/not/exist":              "ca_file",
		"s3://bucket/p#x":                                    "fragment",
		"s3://" + testKeyID + ":" + "S3CRET@bucket/p":        "credentials",
		"s3://bucket/p?endpoint=http://u:S3CRET@h":           "credentials",
		"s3://u:S3CRET@bu cket/p":                            "does not parse",
		"s3://bucket/" + strings.Repeat("x", 121):            "121 bytes",
		"s3://bucket/p?endpoint=http://h&create_bucket=true": "",
		"s3://bucket":          "",
		"s3://bucket/":         "",
		"dir:///tmp/../x\x00y": "does not parse",
	} {
		s, err := Open(t.Context(), raw, Config{})
		if says == "" {
			if err != nil {
				t.Errorf("%q: %v", raw, err)
			} else {
				_ = s.Close()
			}
			continue
		}
		if !errors.Is(err, ErrMisconfigured) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "S3CRET") {
			t.Errorf("%q: %v, want it to say %q", raw, err, says)
		}
	}
}

func TestOpenMemIsSharedByName(t *testing.T) {
	a, err := Open(t.Context(), "mem://shared", Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Put(t.Context(), "k", Bytes([]byte("x")), PutOptions{}); err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	b, _ := Open(t.Context(), "mem://shared", Config{})
	c, _ := Open(t.Context(), "mem://other", Config{})
	if _, err := b.Head(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if _, err := c.Head(t.Context(), "k"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
}

func FuzzOpenURL(f *testing.F) {
	for _, s := range []string{
		"s3://bucket/prefix?endpoint=http://127.0.0.1:9000&region=eu&path_style=true", "mem://x", "s3://a:SECRETSECRET@b",
		"://", "s3://bucket/%2e%2e/x", "s3://bucket?endpoint=%zz", "s3://[::1]/x",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := parseURL(raw)
		if err == nil && u.Scheme == "s3" {
			var c s3Config
			if c, err = parseS3(u); err == nil && (c.Bucket == "" || c.Endpoint.Host == "" || strings.HasPrefix(c.Prefix, "/")) {
				t.Fatalf("%q: %+v", raw, c)
			}
		}
		if err != nil && !errors.Is(err, ErrMisconfigured) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

func TestCredentialsComeFromTheFirstPlaceThatHasAny(t *testing.T) {
	clearAWS(t)
	now := time.Unix(1700000000, 0)
	file := keysFile(t, "FILEID", "filesecret")
	newChain := func(path string) *chain {
		return &chain{file: path, profile: "default", now: func() time.Time { return now }}
	}
	c := newChain(file)
	if v, err := c.Retrieve(); err != nil || v.AccessKeyID != "FILEID" || c.IsExpired() {
		t.Errorf("file: %q, %v, expired %t", v.AccessKeyID, err, c.IsExpired())
	}
	// A rotated file is seen at the next look.
	if err := os.WriteFile(file, []byte("[default]\naws_access_key_id=NEWID\naws_secret_access_key=s\naws_session_token=tok\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, now.Add(time.Hour), now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if c.IsExpired() {
		t.Error("the file is looked at on every request")
	}
	now = now.Add(credentialsRecheck)
	if !c.IsExpired() {
		t.Error("a rotated file is not noticed")
	}
	if v, err := c.Retrieve(); err != nil || v.AccessKeyID != "NEWID" || v.SessionToken != "tok" {
		t.Errorf("rotated: %q, %v", v.AccessKeyID, err)
	}

	t.Setenv("AWS_ACCESS_KEY_ID", "ENVID")
	var ce *credentialsError
	if _, err := c.Retrieve(); !errors.As(err, &ce) || !strings.Contains(err.Error(), "only one of") {
		t.Errorf("half an environment: %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "envsecret")
	if v, err := c.Retrieve(); err != nil || v.AccessKeyID != "ENVID" || c.IsExpired() {
		t.Errorf("environment: %q, %v", v.AccessKeyID, err)
	}
}

func TestCredentialsErrorsNameTheFileAndNoSecret(t *testing.T) {
	clearAWS(t)
	for name, text := range map[string]string{
		"broken":        "[default\n" + testSecret + "\n",
		"no section":    "[other]\naws_access_key_id = " + testKeyID + "\naws_secret_access_key = " + testSecret + "\n",
		"no secret key": "[default]\naws_access_key_id = " + testKeyID + "\n",
		"no id":         "[default]\naws_secret_access_key = " + testSecret + "\n",
	} {
		f := newFakeS3(t, answerBytes([]byte("x")))
		file := writeCredentials(t, text)
		s := openTestS3(t, f.URL, "", Config{CredentialsFile: file})
		_, err := s.Head(t.Context(), "k")
		if !errors.Is(err, ErrDenied) || IsRetriable(err) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
		noSecrets(t, err)
		if got := f.asked(); len(got) != 0 {
			t.Errorf("%s: asked %q without credentials", name, got)
		}
	}
	f := newFakeS3(t, answerBytes([]byte("x")))
	s := openTestS3(t, f.URL, "", Config{CredentialsFile: filepath.Join(t.TempDir(), "missing")})
	if _, err := s.Head(t.Context(), "k"); !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
}
