package integration

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"varve/integration/harness"
)

// ok runs a command that must succeed and say nothing on standard error.
func ok(t testing.TB, b *harness.Broker, args ...string) string {
	t.Helper()
	return okInput(t, b, "", args...)
}

func okInput(t testing.TB, b *harness.Broker, stdin string, args ...string) string {
	t.Helper()
	r := b.Varve(t, stdin, args...)
	if r.Code != 0 || r.Stderr != "" {
		t.Fatalf("varve %s: exit code %d, stderr %q", strings.Join(args, " "), r.Code, r.Stderr)
	}
	return r.Stdout
}

// refused runs a command that must fail with one line on standard error that has all words in it.
func refused(t testing.TB, code int, r harness.Result, words ...string) {
	t.Helper()
	if r.Code != code {
		t.Errorf("exit code %d, want %d; stdout %q, stderr %q", r.Code, code, r.Stdout, r.Stderr)
	}
	if r.Stdout != "" {
		t.Errorf("an error left %q on standard output", r.Stdout)
	}
	for _, w := range words {
		if !strings.Contains(r.Stderr, w) {
			t.Errorf("stderr %q does not say %q", r.Stderr, w)
		}
	}
	if !strings.Contains("\n"+r.Stderr, "\nvarve: ") { // a broker may have logged before it
		t.Errorf("stderr %q has no line that begins with the program's name", r.Stderr)
	}
}

// asJSON decodes the output of a command with --format json into out and checks its envelope.
func asJSON(t testing.TB, kind, text string, out any) {
	t.Helper()
	var head struct {
		Kind    string `json:"kind"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal([]byte(text), &head); err != nil || head.Kind != kind || head.Version != 1 {
		t.Fatalf("not a JSON answer of kind %q: %v\n%.500s", kind, err, text)
	}
	if err := json.Unmarshal([]byte(text), out); err != nil {
		t.Fatal(err)
	}
}

// describedTopic is what `topic describe --format json` says of a topic.
type describedTopic struct {
	Topics []struct {
		Topic      string `json:"topic"`
		TopicID    string `json:"topic_id"`
		Tiered     bool   `json:"tiered"`
		Partitions []struct {
			Partition     int32 `json:"partition"`
			LogStart      int64 `json:"log_start"`
			HighWatermark int64 `json:"high_watermark"`
		} `json:"partitions"`
		Configs []struct{ Key, Value, Source string } `json:"configs"`
	} `json:"topics"`
}

func TestTopicCommandsCreateShowAlterAndDelete(t *testing.T) {
	b := sharedBroker(t)
	const topic = "cli-topic"
	ok(t, b, "topic", "create", "cli-other")
	ok(t, b, "topic", "create", topic, "-p", "3", "-r", "1", "--tiered", "-c", "segment.bytes=4MiB", "-c", "retention.ms=30d")
	refused(t, 1, b.Varve(t, "", "topic", "create", topic), "create topic", topic, "exists")
	ok(t, b, "topic", "create", topic, "--if-not-exists")

	describe := func() map[string]string {
		t.Helper()
		var d describedTopic
		asJSON(t, "topic.describe", ok(t, b, "topic", "describe", topic, "--format", "json"), &d)
		if len(d.Topics) != 1 || d.Topics[0].Topic != topic || len(d.Topics[0].TopicID) != 22 || !d.Topics[0].Tiered {
			t.Fatalf("described %+v", d)
		}
		configs := map[string]string{"partitions": fmt.Sprint(len(d.Topics[0].Partitions))}
		for _, c := range d.Topics[0].Configs {
			if c.Source == "topic" {
				configs[c.Key] = c.Value
			}
		}
		return configs
	}
	expect := func(want map[string]string) {
		t.Helper()
		if got := describe(); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("described\n%v, want\n%v", got, want)
		}
	}
	expect(map[string]string{"partitions": "3", "remote.storage.enable": "true", "segment.bytes": "4194304", "retention.ms": "2592000000"})
	ok(t, b, "topic", "alter", topic, "-c", "local.retention.bytes=8MiB", "--unset", "retention.ms", "-p", "5")
	expect(map[string]string{"partitions": "5", "remote.storage.enable": "true", "segment.bytes": "4194304", "local.retention.bytes": "8388608"})

	for _, word := range []string{topic, "partitions", "5", "segment.bytes", "4MiB"} {
		if text := ok(t, b, "topic", "describe", topic); !strings.Contains(text, word) {
			t.Errorf("topic describe does not say %q:\n%s", word, text)
		}
	}
	listed := func() bool { return strings.Contains("\n"+ok(t, b, "topic", "list"), "\n"+topic+" ") }
	if !listed() {
		t.Error("topic list does not list it")
	}
	ok(t, b, "topic", "delete", topic, "--yes")
	if listed() {
		t.Error("topic list lists a deleted topic")
	}
	refused(t, 1, b.Varve(t, "", "topic", "describe", topic), topic)
	refused(t, 1, b.Varve(t, "", "topic", "delete", topic), topic)
}

// cliLog is a topic of ten records, a minute apart, that the tests of produce and consume share.
func cliLog(t testing.TB, b *harness.Broker, topic string) (first time.Time) {
	t.Helper()
	ok(t, b, "topic", "create", topic, "-p", "1", "-c", "retention.ms=-1")
	first = time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	var lines strings.Builder
	for i := range 10 {
		fmt.Fprintf(&lines, "%d,k%d,value %d\n", first.Add(time.Duration(i)*time.Minute).UnixMilli(), i, i)
	}
	okInput(t, b, lines.String(), "produce", topic, "-f", `%T,%k,%v\n`, "-H", "from=cli", "-z", "zstd")
	return first
}

func TestConsumeReadsTheOffsetsItIsToldTo(t *testing.T) {
	b := sharedBroker(t)
	const topic = "cli-offsets"
	first := cliLog(t, b, topic)
	ms := func(minute int) string { return fmt.Sprint(first.Add(time.Duration(minute) * time.Minute).UnixMilli()) }
	for _, c := range []struct {
		args string
		want string
	}{
		{"-o start -n 3", "0 1 2"},
		{"-o 4 -n 2", "4 5"},
		{"-o 7 -e -n 100", "7 8 9"},
		{"-o -3 -e", "7 8 9"},
		{"-o start:end", "0 1 2 3 4 5 6 7 8 9"},
		{"-o 2:5", "2 3 4"},
		{"-o -4:-2", "6 7"},
		{"-o start:-8", "0 1"},
		{"-o 100:200", ""},
		{"-o @2026-01-02T00:05Z -e", "5 6 7 8 9"},
		{"-o @2026-01-02T00:03:30Z -n 1", "4"},
		{"-o @2026-01-02T00:03Z:@2026-01-02T00:05Z", "3 4"},
		{"-o @2026-01-02T02:03+02:00:5", "3 4"},
		{"-o @2026-01-02:2", "0 1"},
		{"-o @" + ms(8) + ":end", "8 9"},
		{"-o @-1h -e", ""},
		{"-o end -e", ""},
		{"-o 8:end -p 0", "8 9"},
	} {
		t.Run(c.args, func(t *testing.T) {
			args := append([]string{"consume", topic, "-f", "%o "}, strings.Fields(c.args)...)
			if got := strings.TrimSpace(ok(t, b, args...)); got != c.want {
				t.Errorf("offsets %q, want %q", got, c.want)
			}
		})
	}
	for _, bad := range []string{"5:5", "x", "1:2:3", "@", "@tomorrow", "end:start", "5:2", "-2:-4"} {
		t.Run("bad "+bad, func(t *testing.T) {
			refused(t, 2, b.Varve(t, "", "consume", topic, "-o", bad), "-o")
		})
	}
}

func TestConsumePrintsTheFormatItIsToldTo(t *testing.T) {
	b := sharedBroker(t)
	const topic = "cli-format"
	first := cliLog(t, b, topic)
	for _, c := range []struct{ format, want string }{
		{`%v\n`, "value 3\n"},
		{`%t/%p:%o %T %d %k=%v [%h]%%\x21\t\\`, fmt.Sprintf("%s/0:3 %d 2026-01-02T00:03:00.000Z k3=value 3 [from=cli]%%!\t\\", topic, first.Add(3*time.Minute).UnixMilli())},
		{`none`, "none"},
	} {
		if got := ok(t, b, "consume", topic, "-o", "3", "-n", "1", "-f", c.format); got != c.want {
			t.Errorf("-f %q prints %q, want %q", c.format, got, c.want)
		}
	}
	var r struct {
		Topic     string
		Offset    int64
		Timestamp int64
		Key       *string
		Value     *string
		Headers   []struct{ Key, Value string }
	}
	if err := json.Unmarshal([]byte(ok(t, b, "consume", topic, "-o", "3:4", "--format", "json")), &r); err != nil {
		t.Fatal(err)
	}
	if r.Offset != 3 || r.Topic != topic || r.Key == nil || *r.Key != "k3" || r.Value == nil || *r.Value != "value 3" || len(r.Headers) != 1 {
		t.Errorf("as JSON %+v", r)
	}
	for _, bad := range []string{"%x", "%", `\q`, `\x1`} {
		refused(t, 2, b.Varve(t, "", "consume", topic, "-f", bad), "-f")
	}
}

func TestProduceWritesWhatItReads(t *testing.T) {
	b := sharedBroker(t)
	const topic = "cli-produce"
	ok(t, b, "topic", "create", topic, "-p", "2", "-c", "max.message.bytes=3MiB")
	long := strings.Repeat("0123456789", 200_000) // beyond a client's usual limit of 1 MB
	for _, c := range []struct {
		stdin string
		args  []string
		want  string // of partition 1, %k=%v[%h] and a line end
	}{
		{"a\nb\n", nil, "=a[]\n=b[]\n"},
		{"no line end", nil, "=no line end[]\n"},
		{"k1\tv1\nk2\tv2\n", []string{"-f", `%k\t%v\n`}, "k1=v1[]\nk2=v2[]\n"},
		{"v;h=1,i=2\n", []string{"-f", `%v;%h\n`}, "=v[h=1,i=2]\n"},
		{"\n", []string{"-k", "tomb", "-Z"}, "tomb=[]\n"},
		{long + "\n", []string{"--acks", "1", "-z", "lz4"}, "=" + long + "[]\n"},
		{"weak\n", []string{"--acks", "0"}, "=weak[]\n"},
	} {
		var d describedTopic
		asJSON(t, "topic.describe", ok(t, b, "topic", "describe", topic, "--format", "json"), &d)
		from := d.Topics[0].Partitions[1].HighWatermark
		okInput(t, b, c.stdin, append([]string{"produce", topic, "-p", "1"}, c.args...)...)
		n := strings.Count(c.want, "\n")
		got := ok(t, b, "consume", topic, "-p", "1", "-o", fmt.Sprint(from), "-n", fmt.Sprint(n), "-f", `%k=%v[%h]\n`)
		if got != c.want {
			t.Errorf("produce %v of %.40q reads as %.80q, want %.80q", c.args, c.stdin, got, c.want)
		}
	}
	refused(t, 1, b.Varve(t, "x\n", "produce", "cli-no-such-topic"), "cli-no-such-topic")
	refused(t, 1, b.Varve(t, "x\n", "produce", topic, "-p", "9"), "partition 9")
	refused(t, 1, b.Varve(t, strings.Repeat("x", 4<<20)+"\n", "produce", topic), topic)
	refused(t, 1, b.Varve(t, "no tab\n", "produce", topic, "-f", `%k\t%v\n`), "record 1", `\t`)
	for _, args := range [][]string{{"--acks", "2"}, {"-z", "brotli"}, {"-H", "novalue"}, {"-f", "%q"}} {
		refused(t, 2, b.Varve(t, "x\n", append([]string{"produce", topic}, args...)...), args[1])
	}
}

func TestTierCommandsShowBothTiers(t *testing.T) {
	b := sharedBroker(t)
	const topic = "cli-tier"
	ok(t, b, "topic", "create", topic, "-p", "2", "--tiered", "-c", "segment.bytes=1MiB", "-c", "local.retention.bytes=0")
	for i := range 4 {
		b.Produce(t, topic, 0, harness.Payload(uint64(i), 700<<10))
	}
	ok(t, b, "tier", "flush", topic)
	b.GoCold(t, topic, 0)
	b.Produce(t, topic, 0, []byte("only on disk"))

	var d struct{ Topic harness.TierTopic }
	asJSON(t, "tier.describe", ok(t, b, "tier", "describe", topic, "--format", "json"), &d)
	p := d.Topic.Partitions[0]
	if p.LogStart.Offset != 0 || p.LocalStart.Offset != 4 || p.TieredEnd.Offset != 4 || p.HighWatermark.Offset != 5 || p.Bytes.ColdOnly == 0 || p.Bytes.HotOnly == 0 {
		t.Errorf("tier describe: %+v", p)
	}
	today := time.Now().UTC().Format("2006-01-02")
	contains := func(text string, words ...string) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in:\n%s", w, text)
			}
		}
	}
	contains(ok(t, b, "tier", "describe", topic), topic, "LOG START", "LOCAL START", "TIERED END", "HIGH WATERMARK", today, "OLDEST ONLY ON DISK")
	contains(ok(t, b, "tier", "segments", topic), "bucket", "disk, active", ".seg.lz4")
	contains(ok(t, b, "tier", "segments", topic+"/0"), ".seg.lz4")
	contains(ok(t, b, "tier", "explain", topic+"/0"), "active")
	contains(ok(t, b, "tier", "manifest", topic+"/0"), `"tieredEnd": 4`, "crc32c")
	contains(ok(t, b, "tier", "status"), "dir://", "PUT")

	ok(t, b, "topic", "create", "cli-untiered")
	refused(t, 1, b.Varve(t, "", "tier", "flush", "cli-untiered"), "cli-untiered")
	refused(t, 1, b.Varve(t, "", "tier", "describe", "cli-no-such-topic"), "cli-no-such-topic")
	refused(t, 1, b.Varve(t, "", "tier", "explain", topic+"/7"), "7")
	refused(t, 2, b.Varve(t, "", "tier", "explain", topic), topic+"/0")
	refused(t, 2, b.Varve(t, "", "tier", "segments", topic+"/x"), topic+"/x")
}

func TestCommandLinesThatMakeNoSenseEndWithTwo(t *testing.T) {
	b := sharedBroker(t)
	for _, line := range []string{
		"topc list", "topic lits", "topic create", "topic create x --no-such-flag", "topic create x -p many", "topic create x -c novalue",
		"topic alter x", "topic list x", "consume", "consume x -n -1", "tier describe", "list --format xml", "topic list --format xml",
		"config explain no.such.key", "serve x", "topic list -b not-an-address:x:y",
	} {
		t.Run(line, func(t *testing.T) { refused(t, 2, b.Varve(t, "", strings.Fields(line)...)) })
	}
	addrs, err := harness.FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	refused(t, 1, b.Varve(t, "", "topic", "list", "-b", addrs[0]), addrs[0], "refused")
	if out := ok(t, b, "version"); !strings.HasPrefix(out, "varve ") {
		t.Errorf("version prints %q", out)
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if out := ok(t, b, "completion", shell); len(out) < 1000 {
			t.Errorf("completion %s prints %d bytes", shell, len(out))
		}
	}
}
