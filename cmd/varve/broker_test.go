package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"varve/broker"
)

// testBroker runs a broker in this process and gives the environment that commands need.
func testBroker(t *testing.T) (env []string, dir string, stop func()) {
	t.Helper()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	dir = t.TempDir()
	cfg, err := broker.Load(broker.Sources{Dev: true, Flags: map[string]string{
		"data.dir": dir, "listen": "127.0.0.1:0", "admin.listen": "127.0.0.1:0", "internal.listen": "127.0.0.1:0", "gossip.listen": "127.0.0.1:0",
	}, Sets: []string{"log.retention.check.interval.ms=100ms", "group.initial.rebalance.delay.ms=0"}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := broker.Open(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := b.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return []string{"VARVE_BROKERS=" + b.Addresses().Kafka}, dir, stop
}

// cli runs commands against one broker and fails the test where one ends unexpectedly.
type cli struct {
	t   *testing.T
	env []string
}

func (c *cli) run(wantCode int, stdin, command string) (stdout, stderr string) {
	c.t.Helper()
	code, stdout, stderr := invocation(c.t, c.env, stdin, splitWords(command)...)
	if code != wantCode {
		c.t.Fatalf("varve %s: exit code %d, want %d\n%s%s", command, code, wantCode, stdout, stderr)
	}
	return stdout, stderr
}

func (c *cli) prints(command string, want ...string) {
	c.t.Helper()
	out, _ := c.run(0, "", command)
	for _, w := range want {
		if !strings.Contains(out, w) {
			c.t.Errorf("varve %s: %q is not in\n%s", command, w, out)
		}
	}
}

func (c *cli) fails(command, want string) {
	c.t.Helper()
	_, errs := c.run(1, "", command)
	if !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 || !strings.HasPrefix(errs, "varve: ") {
		c.t.Errorf("varve %s: %q is not one line with %q", command, errs, want)
	}
}

func TestTopicCommands(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create clicks -p 3 --tiered -c segment.bytes=1MiB -c retention.ms=30d", "clicks           3         1  created")
	c.prints("topic list", "clicks           3         1  yes")
	c.prints("topic describe clicks", "partitions  3", "remote.storage.enable  true   topic", "retention.ms           30d    topic", "segment.bytes          1MiB   topic")
	c.prints("topic describe clicks -a --format json", `"key": "cleanup.policy"`, `"source": "default"`, `"high_watermark": 0`)
	c.prints("topic alter clicks -c retention.ms=3d -p 4", "retention.ms=259200000 partitions=4")
	c.prints("topic alter clicks --unset retention.ms", "retention.ms unset")
	c.prints("topic create other --dry-run", "valid")
	c.fails("topic create clicks", "TOPIC_ALREADY_EXISTS")
	c.prints("topic create clicks --if-not-exists", "exists")
	c.fails("topic create other -c retension.ms=5", "did you mean retention.ms?")
	c.fails("topic create other --tiered -c local.retention.ms=8d", "local.retention.ms")
	c.fails("topic describe other", "UNKNOWN_TOPIC_OR_PARTITION")
	c.fails("topic alter clicks -p 2", "4 partitions")
	out, errs := c.run(1, "", "topic delete clicks other")
	if !strings.Contains(out, "clicks  deleted") || !strings.Contains(errs, `delete topic "other"`) {
		t.Errorf("delete: %s%s", out, errs)
	}
	_, errs = c.run(0, "", "topic list")
	if !strings.Contains(errs, "no topics") {
		t.Errorf("list: %s", errs)
	}
}

func TestRecordsComeBackAsTheyWereWritten(t *testing.T) {
	env, _, _ := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 1")
	c.run(0, "a\t1\nb\t2\nc\t3\n", `produce t -f '%k\t%v\n'`)
	c.run(0, "1767312000000 x=1,y=2 k v\n", `produce t -f '%T %h %k %v\n'`)
	c.run(0, "\n", `produce t -k gone -Z`)
	for command, want := range map[string]string{
		`consume t -o start -e -f '%o%k%v '`:                     "0a1 1b2 2c3 3kv 4gone ",
		`consume t -o 1:3 -f '%k'`:                               "bc",
		`consume t -o -2 -e -f '%k '`:                            "k gone ",
		`consume t -o start -n 1`:                                "1\n",
		`consume t -o 3:4 -f '%t/%p %T %d %h'`:                   "t/0 1767312000000 2026-01-02T00:00:00.000Z x=1,y=2",
		`consume t -o end -e`:                                    "",
		`consume t -o @-1h:end -n 3 -f '%o'`:                     "012",
		`consume t -o start:@2026-01-01 -f '%o'`:                 "",
		`consume t -o 4:5 --format json`:                         `"key":"gone","value":null}` + "\n",
		`consume t -p 0 -o 2:3 --format json -f '%v'`:            "3",
		`consume t -o 2:3 -f '%k\x3d%v%%\n'`:                     "c=3%\n",
		`consume t -o 9999:99999 -e -f '%k'`:                     "",
		`consume t -o @1767312000000:@1767312000001 -f '%o'`:     "",
		`consume t -o start:2 -n 5 -f '[%k]'`:                    "[a][b]",
		`consume t -o @2026-01-01T00:00:@2026-01-02 -e -f '%k '`: "",
	} {
		if out, _ := c.run(0, "", command); !strings.HasSuffix(out, want) || want == "" && out != "" {
			t.Errorf("varve %s: %q, want %q", command, out, want)
		}
	}
	c.fails("consume nope", `topic "nope"`)
	c.fails("consume t -p 7", "no partition 7")
	c.fails("produce nope", `topic "nope"`)
	c.fails("produce t -p 3", "no partition 3")
	if _, errs := c.run(1, "no tab\n", `produce t -f '%k\t%v\n'`); !strings.Contains(errs, "record 1 of the input") {
		t.Errorf("bad input: %s", errs)
	}
	c.run(0, "auto\n", "produce made --create")
	c.prints("consume made -o start -n 1", "auto")
}

func TestTierCommands(t *testing.T) {
	env, dir, stop := testBroker(t)
	c := &cli{t, env}
	c.prints("topic create t -p 2 --tiered -c segment.bytes=1MiB")
	var input strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&input, "%d\t%d %s\n", i%2, i, strings.Repeat("x", 500))
	}
	c.run(0, input.String(), `produce t -f '%p\t%v\n'`)
	out, _ := c.run(0, "", "tier flush t --format json")
	var flushed struct {
		Partitions []broker.TierFlushItem `json:"partitions"`
	}
	if err := json.Unmarshal([]byte(out), &flushed); err != nil || len(flushed.Partitions) != 2 {
		t.Fatalf("flush: %v\n%s", err, out)
	}
	for _, p := range flushed.Partitions {
		if !p.Done || p.Target != 1000 || p.TieredEnd != 1000 {
			t.Errorf("flush: %+v", p)
		}
	}
	c.prints("tier status", "dir://", "tiered partitions          2", "waiting to upload          0 B in 0 segments")
	c.prints("tier describe t", "tiered        yes", "LOG START", "1000", "idle")
	c.prints("tier segments t/1", ".seg.lz4", "both")
	c.prints("tier explain t/0", "in the store up to    1000", "next upload           nothing")
	c.prints("tier manifest t/0", `"tieredEnd": 1000`)
	c.prints("tier manifest t/0 --format json", `"kind": "tier.manifest"`)
	c.fails("tier describe nope", `"nope"`)
	c.fails("tier explain t/7", "7")
	c.prints("__complete topic describe ''", "t\n")
	stop() // what inspect reads belongs to nobody then
	objects, err := filepath.Glob(filepath.Join(dir, "bucket", "*", "topics", "t.*", "0", "*.seg.lz4"))
	if err != nil || len(objects) == 0 {
		t.Fatalf("objects: %v %v", objects, err)
	}
	c.prints("inspect "+objects[0], "cold object", "partition             0")
	for _, ext := range []string{"log", "index"} {
		files, err := filepath.Glob(filepath.Join(dir, "topics", "*", "0", "*."+ext))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s files: %v %v", ext, files, err)
		}
		c.prints("inspect "+files[0], "first", "next")
		c.prints("--format json inspect "+files[0], `"next": `)
	}
	index, err := filepath.Glob(filepath.Join(dir, "topics", "*", "0", "*.index"))
	if err != nil {
		t.Fatal(err)
	}
	c.prints("inspect "+index[0], "index of a sealed segment", "producers")
	c.prints("inspect "+strings.TrimSuffix(index[0], ".index")+".log", "sealed      true")
	topics, err := filepath.Glob(filepath.Join(dir, "bucket", "*", "topics", "t.*", "topic.json"))
	if err != nil || len(topics) != 1 {
		t.Fatalf("topic.json: %v %v", topics, err)
	}
	c.prints("inspect "+topics[0], "kind        topic.json", "partitions  2", "segment.bytes=1048576")
}
