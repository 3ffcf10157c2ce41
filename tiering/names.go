package tiering

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// PartitionID names a partition for ever. TopicIDText is the id as Kafka prints
// it (unpadded base64url, 22 characters). An empty Cluster means Config.Cluster.
type PartitionID struct {
	Cluster     string
	Topic       string
	TopicID     [16]byte
	TopicIDText string
	Partition   int32
}

func (id PartitionID) String() string {
	return id.Topic + "/" + strconv.Itoa(int(id.Partition))
}

// topicDir is <cluster>/topics/<topic>.<topicID>: readable for people, matched by
// the id alone, which is the part after the last dot.
func topicDir(cluster, topic, topicID string) string {
	return cluster + "/topics/" + topic + "." + topicID
}

func (id PartitionID) dir() string {
	return topicDir(id.Cluster, id.Topic, id.TopicIDText) + "/" + strconv.Itoa(int(id.Partition))
}

const (
	segmentSuffix = ".seg.lz4"
	manifestDir   = "manifest/"
	pageDir       = "pages/"
	jsonSuffix    = ".json"
	nonceHexLen   = 8
)

// newNonce is 8 hex digits from the system's randomness: names are made unique by
// chance, not by asking the store, because asking races with a lost answer.
func newNonce() string {
	var b [nonceHexLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails, as its documentation says
	return hex.EncodeToString(b[:])
}

func segmentName(base int64, epoch int32, nonce string) string {
	return fmt.Sprintf("%020d-%d-%s%s", base, epoch, nonce, segmentSuffix)
}

func pageName(base int64, epoch int32, nonce string) string {
	return fmt.Sprintf("%s%020d-%010d-%s%s", pageDir, base, epoch, nonce, jsonSuffix)
}

// manifestName sorts by epoch, then by sequence. Sequences rise by one along the
// chain of prev, so the highest name is the newest that was ever written.
func manifestName(epoch int32, seq int64, nonce string) string {
	return fmt.Sprintf("%010d-%016d-%s%s", epoch, seq, nonce, jsonSuffix)
}

const manifestNameLen = 10 + 1 + 16 + 1 + nonceHexLen + len(jsonSuffix)

// parseManifestName is the inverse of manifestName.
func parseManifestName(name string) (epoch int32, seq int64, err error) {
	if len(name) != manifestNameLen || name[10] != '-' || name[27] != '-' || !strings.HasSuffix(name, jsonSuffix) {
		return 0, 0, fmt.Errorf("parse manifest name %q: not <epoch10>-<seq16>-<nonce8>.json", name)
	}
	e, err := strconv.ParseUint(name[:10], 10, 31)
	if err != nil {
		return 0, 0, fmt.Errorf("parse manifest name %q: %w", name, err)
	}
	s, err := strconv.ParseUint(name[11:27], 10, 63)
	if err != nil {
		return 0, 0, fmt.Errorf("parse manifest name %q: %w", name, err)
	}
	return int32(e), int64(s), nil
}

// isForeign reports whether a manifest's key is a full key of another topic
// (restored under a new name) and not a name in the partition's own directory.
func isForeign(key string) bool { return strings.Contains(key, "/topics/") }

// resolve turns a manifest's key into a key of the store.
func resolve(dir, key string) string {
	if isForeign(key) {
		return key
	}
	return dir + "/" + key
}
