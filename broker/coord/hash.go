package coord

import (
	"math"
	"unicode/utf16"
)

// PartitionOf is the partition of a key, such as a group id, where there are that many: Kafka's Utils.abs(key.hashCode()) % partitions: the hash runs over UTF-16 code
// units, and abs of the smallest int32 is 0.
func PartitionOf(key string, partitions int32) int32 {
	var h int32
	for _, r := range key {
		if r < 0x10000 {
			h = 31*h + r
			continue
		}
		hi, lo := utf16.EncodeRune(r)
		h = 31*(31*h+hi) + lo
	}
	switch {
	case h == math.MinInt32:
		h = 0
	case h < 0:
		h = -h
	}
	return h % partitions
}
