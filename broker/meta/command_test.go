package meta

import (
	"bytes"
	"errors"
	"hash/crc32"
	"reflect"
	"strings"
	"testing"
)

func crc32Update(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

func TestOversizedProposalIsNotSent(t *testing.T) {
	big := &AlterConfigs{Resource: ResourceCluster, Set: map[string]string{"k": strings.Repeat("x", MaxProposalBytes)}}
	if _, err := (&proposal{Commands: []Command{big}}).encode(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	many := make([]Command, MaxCommands+1)
	for i := range many {
		many[i] = &AllocProducerIDs{Count: 1}
	}
	if _, err := (&proposal{Commands: many}).encode(); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if _, err := decodeProposal(bytes.Repeat([]byte(" "), MaxProposalBytes+1)); !errors.Is(err, ErrTooLarge) {
		t.Errorf("got %v", err)
	}
}

func TestATopicOfAHundredThousandPartitionsFitsAProposal(t *testing.T) {
	c := &CreateTopic{Name: "big", TopicID: testID(1), Partitions: make([][]NodeID, MaxPartitions)}
	for i := range c.Partitions {
		c.Partitions[i] = []NodeID{1, 2, 3}
	}
	if _, err := (&proposal{Commands: []Command{c}}).encode(); err != nil {
		t.Error(err)
	}
}

func TestUnknownFieldsAndTrailingBytesAreRefused(t *testing.T) {
	good := `{"v":1,"broker":1,"epoch":1,"seq":1,"time_ms":0,"commands":[{"v":1,"type":"feature_level","cmd":{"level":1}}]}`
	if _, err := decodeProposal([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{
		good + "{}", good + "x",
		strings.Replace(good, `"level":1`, `"level":1,"more":2`, 1),
		strings.Replace(good, `"seq":1`, `"seq":1,"more":2`, 1),
		strings.Replace(good, `"v":1,"type"`, `"v":2,"type"`, 1),
		strings.Replace(good, `"cmd":{"level":1}`, `"x":0`, 1),
		strings.Replace(good, `{"v":1,"type":"feature_level","cmd":{"level":1}}`, ``, 1),
	} {
		if _, err := decodeProposal([]byte(bad)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func FuzzCommand(f *testing.F) {
	for _, c := range goldenCommands {
		b, err := (&proposal{Broker: 1, Epoch: 3, Sequence: 1, Commands: []Command{c}}).encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodeProposal(data)
		if err != nil {
			return
		}
		enc, err := p.encode()
		if errors.Is(err, ErrTooLarge) {
			return // escapes can make the encoding longer than what was read
		}
		if err != nil {
			t.Fatal(err)
		}
		back, err := decodeProposal(enc)
		if err != nil || !reflect.DeepEqual(normal(t, back), normal(t, p)) {
			t.Fatalf("round trip of %s gave %s: %v", data, enc, err)
		}
		// Whatever was decoded is applied or refused, the same way twice, and breaks no invariant.
		states := [2][]byte{}
		for i := range states {
			w := newWorld(t)
			w.boot(1, testDirA, true)
			w.topic(1, "a", 1, 2, nil, 1)
			for _, epoch := range []int64{p.Epoch, w.epoch[1]} {
				q := *p
				q.Broker, q.Epoch = 1, epoch
				w.send(&q)
			}
			states[i] = encodeState(t, w.f)
		}
		if !bytes.Equal(states[0], states[1]) {
			t.Fatalf("one command gave two states:\n%s\n%s", states[0], states[1])
		}
		checkRestores(t, states[0])
	})
}

// normal is p through one more round trip: empty lists and maps that JSON leaves out become nil.
func normal(t *testing.T, p *proposal) []byte {
	t.Helper()
	b, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}
