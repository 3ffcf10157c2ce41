package integration

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"varve/integration/harness"
)

// kcatClient is the kcat program, which brings librdkafka of the system's age.
var kcatClient = client{
	name: "kcat", can: kcatCan, produce: kcatProduce, sees: kcatSees, consume: kcatConsume,
	need: func(t testing.TB) { harness.Need(t, "kcat", "kcat") },
}

// kcat reads records from text: what stands between them must not be in them.
const (
	kcatRecordEnd = "\x1e\x1d\x1e\n"
	kcatKeyEnd    = "\x1f\x1d\x1f"
)

// kcatCan leaves out what kcat's command line cannot say: an empty key or value (-Z makes it null),
// a null header, and header values with a zero byte. The headers of an invocation are those of all
// its records, so those with the same headers come together, and kcat sets the time.
func kcatCan(set []harness.Record) []harness.Record {
	byHeaders := map[string][]harness.Record{}
	for _, r := range set {
		if r.Key != nil && len(r.Key) == 0 || r.Value != nil && len(r.Value) == 0 {
			continue
		}
		if bytes.Contains(r.Value, []byte(kcatRecordEnd)) || slices.ContainsFunc(r.Headers, kcatCannotSay) {
			continue
		}
		r.Time = harness.NoTime
		h := fmt.Sprintf("%q", r.Headers)
		byHeaders[h] = append(byHeaders[h], r)
	}
	var out []harness.Record
	for _, h := range slices.Sorted(maps.Keys(byHeaders)) {
		out = append(out, byHeaders[h]...)
	}
	return append(out,
		harness.Record{Key: []byte("kcat"), Value: []byte("headers"), Time: harness.NoTime, Headers: []harness.Header{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: []byte("größe")}, {Key: "empty", Value: []byte{}},
		}})
}

func kcatCannotSay(h harness.Header) bool { return h.Value == nil || bytes.IndexByte(h.Value, 0) >= 0 }

func kcatProduce(t testing.TB, b *harness.Broker, topic string, partition int32, codec string, records []harness.Record) {
	for len(records) > 0 {
		n, headers := 1, fmt.Sprintf("%q", records[0].Headers)
		for n < len(records) && fmt.Sprintf("%q", records[n].Headers) == headers {
			n++
		}
		kcatInvoke(t, b, topic, partition, codec, records[:n])
		records = records[n:]
	}
}

func kcatInvoke(t testing.TB, b *harness.Broker, topic string, partition int32, codec string, records []harness.Record) {
	args := []string{
		"-P", "-b", b.Addr, "-t", topic, "-p", strconv.Itoa(int(partition)), "-z", codec, "-Z", "-D", kcatEscape(kcatRecordEnd),
		"-K", kcatEscape(kcatKeyEnd), "-X", "message.max.bytes=" + strconv.Itoa(harness.MaxBatch), "-X", "acks=all",
	}
	for _, h := range records[0].Headers {
		args = append(args, "-H", h.Key+"="+string(h.Value))
	}
	var in bytes.Buffer
	for _, r := range records {
		in.Write(r.Key)
		in.WriteString(kcatKeyEnd)
		in.Write(r.Value)
		in.WriteString(kcatRecordEnd)
	}
	harness.Output(t, &in, "kcat", args...)
}

// kcatEscape writes a delimiter in the form of kcat's options.
func kcatEscape(s string) string {
	var out strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&out, `\x%02x`, c)
	}
	return out.String()
}

func kcatConsume(t testing.TB, b *harness.Broker, topic string, counts map[int32]int) harness.Expected {
	out, total := harness.Expected{}, 0
	for _, n := range counts {
		total += n
	}
	text := harness.Output(t, nil, "kcat", "-C", "-b", b.Addr, "-t", topic, "-o", "beginning", "-e", "-q", "-c", strconv.Itoa(total),
		"-X", "fetch.message.max.bytes="+strconv.Itoa(harness.MaxBatch), "-f", `%p %o %T %K %S\n%k%s%h`+kcatEscape(kcatRecordEnd))
	for len(text) > 0 {
		p, r, rest, err := kcatParse(text)
		if err != nil {
			t.Fatalf("output of kcat for %s: %v", topic, err)
		}
		out[p] = append(out[p], r)
		text = rest
	}
	return out
}

// kcatSees: kcat prints the value of a header up to its first zero byte.
func kcatSees(r harness.Record) harness.Record {
	for i, h := range r.Headers {
		if at := bytes.IndexByte(h.Value, 0); at >= 0 {
			r.Headers[i].Value = h.Value[:at]
		}
	}
	return r
}

// kcatParse takes one record off the front of kcat's output.
func kcatParse(text []byte) (partition int32, r harness.Record, rest []byte, err error) {
	line, rest, _ := bytes.Cut(text, []byte("\n"))
	var keyLen, valueLen int
	if _, err := fmt.Sscanf(string(line), "%d %d %d %d %d", &partition, &r.Offset, &r.Time, &keyLen, &valueLen); err != nil {
		return 0, r, nil, fmt.Errorf("%.80q: %w", line, err)
	}
	if len(rest) < max(keyLen, 0)+max(valueLen, 0) {
		return 0, r, nil, fmt.Errorf("offset %d is cut off", r.Offset)
	}
	r.Key, rest = kcatField(rest, keyLen)
	r.Value, rest = kcatField(rest, valueLen)
	headers, rest, ok := bytes.Cut(rest, []byte(kcatRecordEnd))
	if !ok {
		return 0, r, nil, fmt.Errorf("offset %d has no end", r.Offset)
	}
	if len(headers) > 0 {
		for _, h := range bytes.Split(headers, []byte(",")) {
			name, value, _ := bytes.Cut(h, []byte("="))
			if string(value) == "NULL" {
				value = nil
			}
			r.Headers = append(r.Headers, harness.Header{Key: string(name), Value: value})
		}
	}
	return partition, r, rest, nil
}

// kcatField takes a key or value; length -1 is null.
func kcatField(text []byte, n int) (field, rest []byte) {
	if n < 0 {
		return nil, text
	}
	return text[:n:n], text[n:]
}
