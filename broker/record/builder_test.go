package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBuilderIsReusable(t *testing.T) {
	w := NewBuilder(LZ4)
	w.SetProducer(1, 2, 3)
	w.SetTransactional()
	w.SetBaseOffset(9)
	w.Append(Record{Timestamp: 77, Value: []byte("first")})
	first, err := w.Build()
	if err != nil {
		t.Fatal(err)
	}
	kept := bytes.Clone(first)
	w.Reset()
	for _, r := range sample() {
		w.Append(r)
	}
	second, err := w.Build()
	if err != nil || !bytes.Equal(second, build(t, LZ4, sample())) || w.Count() != 4 {
		t.Errorf("after Reset: %v, %v", second, err)
	}
	if !bytes.Equal(first, kept) {
		t.Error("Reset changed the batch that Build returned")
	}
}

func TestBuildRefusesWhatIsNoBatch(t *testing.T) {
	if _, err := NewBuilder(None).Build(); !errors.Is(err, ErrInvalidRecord) {
		t.Errorf("no records: %v", err)
	}
	bad := NewBuilder(7)
	bad.Append(Record{})
	if _, err := bad.Build(); !errors.Is(err, ErrInvalidRecord) {
		t.Errorf("codec 7: %v", err)
	}
	w := NewBuilder(None)
	w.Append(Record{Value: make([]byte, MaxBatchBytes-HeaderLen-10)}) // with its lengths a little more
	w.Append(Record{})
	if _, err := w.Build(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
}

func TestVarintLenIsExact(t *testing.T) {
	for _, v := range []int64{0, -1, 1, 63, -64, 64, -65, 1 << 20, math.MaxInt32, math.MinInt32, math.MaxInt64, math.MinInt64} {
		if got, want := varintLen(v), len(binary.AppendVarint(nil, v)); got != want {
			t.Errorf("varintLen(%d) = %d, want %d", v, got, want)
		}
	}
}

func TestEndTxnMarkerIsAsKafkaWritesIt(t *testing.T) {
	for _, c := range []struct {
		commit bool
		kind   ControlType
	}{{true, ControlCommit}, {false, ControlAbort}} {
		b := NewEndTxnMarker(c.commit, 4000, 7, 12, 1_700_000_000_000)
		if p, err := Parse(b); err != nil || len(p) != len(b) || b.CheckCRC() != nil {
			t.Fatal(b, err)
		}
		if a := b.Attributes(); !a.Control() || !a.Transactional() || a.Codec() != None {
			t.Errorf("attributes %b", a)
		}
		if b.ProducerID() != 4000 || b.ProducerEpoch() != 7 || b.BaseSequence() != -1 || b.Count() != 1 {
			t.Error(b)
		}
		recs, err := collect(b, 0)
		if err != nil || len(recs) != 1 {
			t.Fatal(recs, err)
		}
		// EndTransactionMarker.java: key int16 version, int16 type; value int16 version, int32 epoch.
		if !bytes.Equal(recs[0].Key, []byte{0, 0, 0, byte(c.kind)}) || !bytes.Equal(recs[0].Value, []byte{0, 0, 0, 0, 0, 12}) {
			t.Errorf("key %x value %x", recs[0].Key, recs[0].Value)
		}
		if kind, err := ParseControl(recs[0]); err != nil || kind != c.kind {
			t.Error(kind, err)
		}
		if epoch, err := ParseEndTxnMarker(recs[0]); err != nil || epoch != 12 {
			t.Error(epoch, err)
		}
		if err := ValidateProduce(b, anyTime); !errors.Is(err, ErrInvalidRecord) {
			t.Errorf("a client may send a marker: %v", err)
		}
	}
}

func TestParseControlRefusesShortKeys(t *testing.T) {
	for _, key := range [][]byte{nil, {0}, {0, 0, 0}, {0xff, 0xff, 0, 0}} {
		if _, err := ParseControl(Record{Key: key}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("key %x: %v", key, err)
		}
	}
	for _, value := range [][]byte{nil, {0, 0, 0, 0, 1}, {0xff, 0xff, 0, 0, 0, 1}} {
		if _, err := ParseEndTxnMarker(Record{Value: value}); !errors.Is(err, ErrCorrupt) {
			t.Errorf("value %x: %v", value, err)
		}
	}
	if kind, err := ParseControl(Record{Key: []byte{0, 1, 0, 9, 5}}); err != nil || kind != 9 || kind.String() != "unknown" {
		t.Error(kind, err)
	}
}

func TestCodecNames(t *testing.T) {
	for _, c := range allCodecs {
		if got, err := ParseCodec(c.String()); got != c || err != nil {
			t.Error(c, got, err)
		}
	}
	if got, err := ParseCodec("uncompressed"); got != None || err != nil {
		t.Error(got, err)
	}
	for _, name := range []string{"", "producer", "LZ4", "brotli"} {
		if _, err := ParseCodec(name); err == nil {
			t.Errorf("%q is a codec", name)
		}
	}
	if Codec(6).Valid() || Codec(-1).Valid() || Codec(6).String() != "codec(6)" {
		t.Error("codec 6 is valid")
	}
}
