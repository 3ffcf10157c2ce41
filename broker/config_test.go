package broker

import (
	"bytes"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"varve/broker/meta"
)

var rewrite = flag.Bool("rewrite", false, "write generated files instead of comparing them")

func writeFile(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "varve.yaml")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestDefaultConfigIsValid(t *testing.T) {
	c := DefaultConfig()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:9092" || c.LogSegmentBytes != 128<<20 || c.LogRetention != 7*24*time.Hour || !c.AutoCreateTopics {
		t.Fatalf("defaults: %+v", c)
	}
	if c.RemoteCopyBytesPerSec != NoRateLimit || c.LogLocalRetention != FollowTotalTime || c.LogRetentionBytes != UnlimitedBytes {
		t.Fatalf("special defaults: %+v", c)
	}
}

func TestEveryKeySetsItsOwnFieldAndReadsItBack(t *testing.T) {
	seen := map[any]string{}
	var c Config
	for _, k := range Keys() {
		p := k.field(&c)
		if other, taken := seen[p]; taken {
			t.Errorf("%s and %s share a field", k.Name, other)
		}
		seen[p] = k.Name
		d := DefaultConfig()
		again := DefaultConfig()
		if err := k.parseInto(&again, k.Value(&d)); err != nil {
			t.Errorf("%s: own value refused: %v", k.Name, err)
		}
		if err := k.parseInto(&again, k.Human(&d)); err != nil {
			t.Errorf("%s: human value refused: %v", k.Name, err)
		}
		if k.Value(&again) != k.Value(&d) {
			t.Errorf("%s: %q became %q", k.Name, k.Value(&d), k.Value(&again))
		}
		if k.Doc == "" || !strings.HasSuffix(k.Doc, ".") || strings.Contains(k.Doc, "\n") {
			t.Errorf("%s: doc is not one sentence on one line: %q", k.Name, k.Doc)
		}
	}
}

func TestStrongerSourceWinsAndIsRemembered(t *testing.T) {
	file := writeFile(t, "# comment\nlog.level: debug\nlog.retention.ms: 24h\nlisten: \"127.0.0.1:1\"\nrack: r1\nseeds: [a:1, b:2]\n")
	c, err := Load(Sources{
		File:  file,
		Env:   []string{"VARVE_LOG_RETENTION_MS=48h", "VARVE_LISTEN=127.0.0.1:2", "VARVE_RACK=r2", "HOME=/root"},
		Sets:  []string{"listen=127.0.0.1:3", "rack=r3"},
		Flags: map[string]string{"rack": "r4"},
	})
	if err != nil {
		t.Fatal(err)
	}
	type won struct{ Value, Origin string }
	got := map[string]won{}
	for _, name := range []string{"log.level", "log.retention.ms", "listen", "rack", "seeds", "node.id"} {
		k, _ := LookupKey(name)
		got[name] = won{k.Value(&c), c.Origin(name).String()}
	}
	want := map[string]won{
		"log.level":        {"debug", "file " + file + ":2"},
		"log.retention.ms": {"172800000", "environment VARVE_LOG_RETENTION_MS"},
		"listen":           {"127.0.0.1:3", "-X listen=127.0.0.1:3"},
		"rack":             {"r4", "flag --rack"},
		"seeds":            {"a:1,b:2", "file " + file + ":6"},
		"node.id":          {"1", "default"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestDevGivesABucketBesideTheDataUnlessToldOtherwise(t *testing.T) {
	c, err := Load(Sources{Dev: true, Flags: map[string]string{"data.dir": "/tmp/v"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Store != "dir:///tmp/v/bucket" || c.Origin("store").Kind != OriginDev {
		t.Fatalf("store %q from %s", c.Store, c.Origin("store"))
	}
	c, err = Load(Sources{Dev: true, Env: []string{"VARVE_STORE=mem://x"}})
	if err != nil || c.Store != "mem://x" {
		t.Fatalf("store %q, %v", c.Store, err)
	}
}

func TestAllFaultsAreToldAtOnce(t *testing.T) {
	file := writeFile(t, strings.Join([]string{
		"log.retention.mss: 24h",      // 1
		"retention.ms: 24h",           // 2
		"log.segment.bytes: 5 pounds", // 3
		"log.segment.bytes: 1MiB",     // 4: doubled
		"log: {level: debug}",         // 5: nested
		"broker.id: 3",                // 6
		"num.partitions: 0",           // 7
		"log.level: loud",             // 8
		"rack:",                       // 9
		"auto.create.topics.enable: yep",
		"completely.other: 1",
	}, "\n"))
	_, err := Load(Sources{
		File: file,
		Env:  []string{"VARVE_LOG_RETENTION_M=1", "VARVE_PORT_9092_TCP=tcp://10.0.0.1:9092", "VARVE_BROKERS=x:1", "VARVE_REQUIRE=all"},
		Sets: []string{"nonsense", "node.idd=3"},
	})
	if err == nil || !errors.Is(err, ErrConfig) {
		t.Fatalf("error %v", err)
	}
	want := strings.ReplaceAll(`FILE:1: log.retention.mss: no such key; did you mean log.retention.ms?
FILE:2: retention.ms: no such key of the broker; it is a key of topics, and log.retention.ms is its default for all
FILE:3: log.segment.bytes: "5 pounds" is not a size: write bytes, or a number with KiB, MiB, GiB or TiB
FILE:4: log.segment.bytes: already set on line 3
FILE:5: log: keys are not nested; write log.level: ...
FILE:6: broker.id: no such key; here it is node.id
FILE:7: num.partitions: 0 is outside 1 to 10000
FILE:8: log.level: "loud" is not one of debug, info, warn, error
FILE:9: rack: no value; write "" for an empty one
FILE:10: auto.create.topics.enable: "yep" is not true or false
FILE:11: completely.other: no such key; configs/reference.yaml lists them all
VARVE_LOG_RETENTION_M: no such key; did you mean VARVE_LOG_RETENTION_MS?
-X: "nonsense" is not of the form key=value
-X: node.idd: no such key; did you mean node.id?`, "FILE", file)
	sortLines := cmp.Transformer("lines", func(s string) map[string]bool {
		m := map[string]bool{}
		for line := range strings.SplitSeq(s, "\n") {
			m[line] = true
		}
		return m
	})
	if d := cmp.Diff(want, err.Error(), sortLines); d != "" {
		t.Fatal(d)
	}
}

func TestKeysAreCheckedAgainstEachOther(t *testing.T) {
	for _, tc := range []struct {
		name string
		sets []string
		want string
	}{
		{"listen without host", []string{"listen=:9092"}, `names no host`},
		{"listen without port", []string{"listen=9092"}, `"9092" is not host:port`},
		{"wildcard needs advertise", []string{"listen=0.0.0.0:9092"}, "advertised.listen: required when listen is 0.0.0.0:9092"},
		{"wildcard v6 needs advertise", []string{"listen=[::]:9092"}, "advertised.listen: required"},
		{"advertised wildcard", []string{"advertised.listen=0.0.0.0:1"}, "clients cannot connect"},
		{"same address twice", []string{"admin.listen=127.0.0.1:9092"}, "already the address of listen"},
		{"even founders", []string{"bootstrap.expect=2"}, "2 is not 1, 3 or 5"},
		{"local above total", []string{"log.retention.ms=1h", "log.local.retention.ms=2h"}, "2h is more than log.retention.ms (1h)"},
		{"local unlimited above total", []string{"log.retention.bytes=1GiB", "log.local.retention.bytes=-1"}, "log.local.retention.bytes: -1 is more"},
		{"tier without store", []string{"varve.tier.default=true"}, "needs a store"},
		{"relative dir store", []string{"store=dir://bucket"}, "no absolute path"},
		{"store of another kind", []string{"store=gs://bucket"}, "neither dir:///path nor s3://bucket/prefix"},
		{"secret in the URL", []string{"store=s3://key:secret@bucket/"}, "credentials do not belong"},
		{"request larger than memory", []string{"queued.max.request.bytes=1MiB"}, "could never be read"},
		{"batch larger than frame", []string{"socket.request.max.bytes=1MiB", "message.max.bytes=2MiB"}, "could never be sent"},
		{"control bytes", []string{"rack=a\x00b"}, "control characters"},
		{"seed without port", []string{"seeds=a:1,b"}, `"b" is not host:port`},
		{"finer than a millisecond", []string{"log.roll.ms=1us"}, "finer than a millisecond"},
		{"negative size", []string{"varve.tier.cache.bytes=-5"}, "is outside 0 and more"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(Sources{Sets: tc.sets})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want %q", err, tc.want)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Fatalf("secret in %q", err)
			}
		})
	}
}

func TestSizesAndDurations(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "-1": -1, "512MiB": 512 << 20, "1.5GiB": 3 << 29, "10 kB": 10_000, "1TB": 1e12, "7B": 7} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1MiB", "NaNGiB", "InfGiB", "9e30GiB", "1PiBs", "0x10"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d", text, got)
		}
	}
	for text, want := range map[string]time.Duration{"250": 250 * time.Millisecond, "24h": 24 * time.Hour, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "-1": UnlimitedTime} {
		if got, err := ParseMillis(text); err != nil || got != want {
			t.Errorf("ParseMillis(%q) = %s, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "d", "-1h", "1w", "99999999d", "1d-1h", "1.5d", "300000h99999999h"} {
		if got, err := ParseMillis(text); err == nil {
			t.Errorf("ParseMillis(%q) = %s", text, got)
		}
	}
	if got := millis(math.MaxInt64); got < 0 || got%time.Millisecond != 0 {
		t.Errorf("millis(MaxInt64) = %d", got)
	}
}

func TestTopicDefaultsSpeakKafka(t *testing.T) {
	c, err := Load(Sources{Sets: []string{"log.segment.bytes=4MiB", "log.retention.ms=1d", "write.caching=true"}})
	if err != nil {
		t.Fatal(err)
	}
	d := c.TopicDefaults()
	for key, want := range map[string]string{
		"segment.bytes": "4194304", "retention.ms": "86400000", "write.caching": "true", "local.retention.ms": "-2",
		"max.message.bytes": "1048588", "cleanup.policy": "delete", "retention.bytes": "-1",
	} {
		if d[key] != want {
			t.Errorf("%s = %q, want %q", key, d[key], want)
		}
	}
}

func TestTopicDefaultsAreThoseOfTheTopicTable(t *testing.T) {
	c := DefaultConfig()
	for _, k := range Keys() {
		if k.Topic == "" {
			continue
		}
		topic, ok := meta.TopicConfigKey(k.Topic)
		if !ok {
			t.Errorf("%s is the default of %s, which is no topic key", k.Name, k.Topic)
			continue
		}
		if got := k.Value(&c); got != topic.Default {
			t.Errorf("%s is %s, the topic key's default is %s", k.Name, got, topic.Default)
		}
		if !slices.Contains(topic.Synonyms, k.Name) && k.Name != k.Topic {
			t.Errorf("%s does not list %s among its synonyms", k.Topic, k.Name)
		}
	}
	if err := meta.ValidateTopicConfigs(c.TopicDefaults()); err != nil {
		t.Error(err)
	}
}

func TestDynamicChangesLeaveTheOriginalAlone(t *testing.T) {
	c := DefaultConfig()
	n, err := c.WithDynamic(map[string]string{"log.retention.ms": "3600000", "message.max.bytes": "2097152"})
	if err != nil || n.LogRetention != time.Hour || n.MessageMaxBytes != 2<<20 || c.LogRetention != 7*24*time.Hour {
		t.Fatalf("%+v, %v", n, err)
	}
	for _, tc := range []struct{ key, value, want string }{
		{"listen", "x:1", "cannot change while the broker runs"},
		{"log.retention.mz", "1", "did you mean log.retention.ms?"},
		{"log.local.retention.ms", "999999999999", "is more than log.retention.ms"},
		{"log.retention.ms", "soon", "is not a duration"},
	} {
		if _, err := c.WithDynamic(map[string]string{tc.key: tc.value}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: %v", tc.key, tc.value, err)
		}
	}
}

func TestReferenceFileEqualsTheTable(t *testing.T) {
	var b bytes.Buffer
	if err := WriteReference(&b); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join("..", "configs", "reference.yaml")
	if *rewrite {
		if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(file), b.String()); d != "" {
		t.Fatalf("configs/reference.yaml is stale; run go generate ./cmd/varve\n%s", d)
	}
}

func TestShippedConfigsLoad(t *testing.T) {
	for _, name := range []string{"dev", "single-node", "minio", "reference"} {
		c, err := Load(Sources{File: filepath.Join("..", "configs", name+".yaml")})
		if err != nil {
			t.Errorf("%s.yaml: %v", name, err)
			continue
		}
		if name != "reference" {
			continue
		}
		def := DefaultConfig()
		for _, k := range Keys() {
			if k.Value(&c) != k.Value(&def) {
				t.Errorf("reference.yaml sets %s to %q, the default is %q", k.Name, k.Value(&c), k.Value(&def))
			}
			if c.Origin(k.Name).Kind != OriginFile {
				t.Errorf("reference.yaml does not set %s", k.Name)
			}
		}
	}
}

func FuzzConfig(f *testing.F) {
	f.Add([]byte("listen: \"127.0.0.1:9092\"\nlog.retention.ms: 24h\nseeds: [a:1, b:2]\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("? {a: b}\n: c\n"))
	f.Add([]byte("log.retention.ms: 1d\nlog.retention.ms: 2d\n"))
	f.Add([]byte("store: s3://b\nrack: !!binary aGk=\n---\nx: y\n"))
	f.Add([]byte("- a\n- b\n"))
	f.Add([]byte("varve.tier.cache.bytes: 9223372036854775807\nnum.partitions: 1e3\n"))
	if ref, err := os.ReadFile(filepath.Join("..", "configs", "reference.yaml")); err == nil {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 64<<10 {
			return
		}
		settings, faults := ParseFile("f", text)
		for _, fault := range faults {
			if s := fault.String(); strings.Contains(s, "\n") || len(s) > 1000 {
				t.Fatalf("fault is not one clear line: %q", s)
			}
		}
		c := DefaultConfig()
		for _, s := range settings {
			k, ok := LookupKey(s.Key)
			if !ok {
				t.Fatalf("unknown key %q was let through", s.Key)
			}
			if k.parseInto(&c, s.Value) != nil {
				continue
			}
			again := DefaultConfig()
			if err := k.parseInto(&again, k.Value(&c)); err != nil || k.Value(&again) != k.Value(&c) {
				t.Fatalf("%s: %q does not round-trip: %v", k.Name, k.Value(&c), err)
			}
		}
		_ = c.Validate()
	})
}

func TestAStorageClassThatCannotBeReadAtOnceIsRefused(t *testing.T) {
	for class, want := range map[string]string{"STANDARD_IA": "", "GLACIER": "cannot be read at once", "a b": "is no name of a storage class"} {
		_, err := Load(Sources{Sets: []string{"varve.tier.storage.class=" + class}})
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "varve.tier.storage.class: ") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", class, err)
		}
	}
}
