package meta

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func TestRestoredStateMachineGoesOnAsTheOldOne(t *testing.T) {
	w := newWorld(t)
	busyHistory(w)
	other := newWorld(t)
	other.f = checkRestores(t, encodeState(t, w.f))
	other.log, other.epoch = append([][]byte(nil), w.log...), w.epoch
	retry := w.log[len(w.log)-1]
	a, b := w.raw(retry), other.raw(retry) // the result windows are in the snapshot too
	if fmt.Sprint(a) != fmt.Sprint(b) {
		t.Errorf("retry gave %v before and %v after", a, b)
	}
	next, err := (&proposal{Broker: 1, Epoch: w.epoch[1], Sequence: 500, Commands: []Command{&AllocProducerIDs{Count: 3}}}).encode()
	if err != nil {
		t.Fatal(err)
	}
	w.raw(next)
	other.raw(next)
	if !bytes.Equal(encodeState(t, w.f), encodeState(t, other.f)) {
		t.Error("the states part after a restore")
	}
}

func TestSnapshotOfManyPartitionsIsRestored(t *testing.T) {
	w := newWorld(t)
	w.boot(1, testDirA, true)
	w.topic(1, "big", 1, 3*partitionChunk+1, nil, 1)
	w.topic(1, "exact", 2, partitionChunk, nil, 1)
	checkRestores(t, encodeState(t, w.f))
}

func TestDamagedSnapshotIsRefused(t *testing.T) {
	w := newWorld(t)
	busyHistory(w)
	good := encodeState(t, w.f)
	lines := strings.SplitAfter(strings.TrimSuffix(string(good), "\n"), "\n")
	refused := func(what, text string) {
		t.Helper()
		if _, err := decodeSnapshot(strings.NewReader(text)); err == nil {
			t.Errorf("%s was restored", what)
		}
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		refused(fmt.Sprintf("bit flipped in byte %d", i), string(bad))
	}
	for i := 0; i < len(good)-1; i += 13 {
		refused(fmt.Sprintf("cut at %d", i), string(good[:i]))
	}
	for i := range lines {
		refused(fmt.Sprintf("without line %d", i), strings.Join(append(append([]string(nil), lines[:i]...), lines[i+1:]...), ""))
		refused(fmt.Sprintf("with line %d twice", i), strings.Join(append(append([]string(nil), lines[:i+1]...), lines[i:]...), ""))
	}
	refused("more after its end", string(good)+"x")
	refused("an endless line", strings.Repeat(" ", maxSnapshotLine+1)+string(good))
}

func FuzzSnapshot(f *testing.F) {
	w := newWorld(f)
	busyHistory(w)
	f.Add(encodeState(f, w.f))
	f.Add(encodeImage(f, newImage()))
	f.Add([]byte(`{"type":"header","data":{"v":1}}` + "\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		// Most inputs die at the checksum: give them the one that they should have.
		for _, in := range [][]byte{data, resealed(data)} {
			s, err := decodeSnapshot(bytes.NewReader(in))
			if err != nil {
				continue
			}
			var once, twice bytes.Buffer
			if err := s.encode(&once); err != nil {
				t.Fatal(err)
			}
			back, err := decodeSnapshot(bytes.NewReader(once.Bytes()))
			if err != nil {
				t.Fatalf("what was written is not read: %v\n%s", err, once.Bytes())
			}
			if err := back.encode(&twice); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(once.Bytes(), twice.Bytes()) {
				t.Fatalf("one state has two encodings:\n%s\n%s", once.Bytes(), twice.Bytes())
			}
		}
	})
}

// resealed replaces the end line by one that fits the lines before it.
func resealed(data []byte) []byte {
	body := bytes.TrimSuffix(data, []byte("\n"))
	if i := bytes.LastIndexByte(body, '\n'); i >= 0 {
		body = body[:i+1]
	}
	crc := uint32(0)
	lines := bytes.SplitAfter(body, []byte("\n"))
	for _, l := range lines {
		crc = crc32Update(crc, l)
	}
	return fmt.Appendf(bytes.Clone(body), `{"type":"end","data":{"lines":%d,"crc32c":%d}}`+"\n", len(lines)-1, crc)
}
