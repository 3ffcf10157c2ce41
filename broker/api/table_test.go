package api

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestTableServesNoVersionThatKmsgDoesNotKnow(t *testing.T) {
	a := &API{}
	for key, e := range a.newTable() {
		m := kmsg.RequestForKey(key)
		if m == nil {
			t.Fatalf("key %d is unknown to kmsg", key)
		}
		if e.max != m.MaxVersion() {
			t.Errorf("%s: served up to version %d, kmsg knows %d", kmsg.NameForKey(key), e.max, m.MaxVersion())
		}
		handlers := 0
		for _, has := range []bool{e.hot != nil, e.handle != nil, e.later != nil} {
			if has {
				handlers++
			}
		}
		if handlers != 1 {
			t.Errorf("%s has not exactly one handler", kmsg.NameForKey(key))
		}
		for v := e.min; v <= e.max; v++ {
			if m.SetVersion(v); m.IsFlexible() != (v >= e.flexible) {
				t.Errorf("%s v%d: flexible is wrong", kmsg.NameForKey(key), v)
			}
		}
	}
}

func TestFloorsAreThoseOfKafka42(t *testing.T) {
	floors := map[int16]int16{
		0: 3, 1: 4, 2: 1, 3: 0, 10: 0, 18: 0, 19: 2, 20: 1, 21: 0, 22: 0, 23: 2, 32: 1, 33: 0, 35: 1, 37: 0, 44: 0, 60: 0, 75: 0,
		8: 2, 9: 1, 11: 0, 12: 0, 13: 0, 14: 0, 15: 0, 16: 0, 42: 0, 47: 0,
		24: 0, 25: 0, 26: 0, 27: 1, 28: 0, 61: 0, 65: 0, 66: 0,
		29: 1, 30: 1, 31: 1, 34: 1, 38: 1, 39: 1, 40: 1, 41: 1, 43: 0, 45: 0, 46: 0, 48: 0, 49: 0, 50: 0, 51: 0, 55: 0, 57: 0, 64: 0, 74: 0,
	}
	a := &API{}
	for key, e := range a.newTable() {
		floor, ok := floors[key]
		if !ok || floor != e.min {
			t.Errorf("%s starts at version %d, want %d (listed: %v)", kmsg.NameForKey(key), e.min, floor, ok)
		}
	}
}
