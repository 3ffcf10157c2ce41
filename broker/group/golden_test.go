package group

import (
	"encoding/hex"
	"strings"
	"testing"
)

// TestRecordsAreKafkasOwnBytes pins what is in __consumer_offsets, field by field as Kafka's schemas
// (OffsetCommitKey 1, OffsetCommitValue 3, GroupMetadataKey 2, GroupMetadataValue 3) have them.
func TestRecordsAreKafkasOwnBytes(t *testing.T) {
	w := newWorld(t)
	w.set.InitialDelay = 0
	for _, line := range []string{"join v=3", "wait 0s", "sync id=c-1 assign=c-1:x", "commit id=c-1 generation=1 metadata=1 t/2=5"} {
		runLine(w, line)
	}
	want := []struct{ what, key, value string }{
		{
			"group metadata",
			"0002 0001 67",
			"0003 0008 636f6e73756d6572" + // version, protocol type
				"00000001 0005 72616e6765 0003 632d31" + // generation, protocol, leader
				"000000003b9aca00" + // current state timestamp
				"00000001 0003 632d31 ffff 0001 63 0005 2f686f7374" + // one member: id, no instance id, client id, host
				"0000ea60 00002710" + // rebalance and session timeout
				"0000000d 0000 00000001 0001 74 ffffffff" + // subscription
				"00000001 78", // assignment
		},
		{
			"offset",
			"0001 0001 67 0001 74 00000002",
			"0003 0000000000000005 ffffffff 0001 6d 000000003b9aca00", // version, offset, leader epoch, metadata, time
		},
	}
	if len(w.log) != len(want) {
		t.Fatalf("%d records", len(w.log))
	}
	for i, x := range want {
		key, value := hex.EncodeToString(w.log[i].rec.Key), hex.EncodeToString(w.log[i].rec.Value)
		if key != strings.ReplaceAll(x.key, " ", "") || value != strings.ReplaceAll(x.value, " ", "") {
			t.Errorf("%s:\n key   %s\n value %s", x.what, key, value)
		}
	}
}
