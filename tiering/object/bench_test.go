package object_test

import (
	"hash/crc32"
	"testing"

	"varve/tiering/object"
	"varve/tiering/object/storetest"
)

// BenchmarkS3 measures the client's side of a local MinIO; the server shares the
// machine, so only bytes per operation and ratios mean much.
func BenchmarkS3(b *testing.B) {
	m := storetest.StartMinIO(b)
	s, err := object.Open(b.Context(), m.URL("bench"), m.Config())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if _, err := object.Probe(b.Context(), s, "bench"); err != nil {
		b.Fatal(err)
	}
	body := storetest.Random(1, 64<<20)
	known := object.CRC(crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	for _, c := range []struct {
		name string
		crc  object.Checksum
	}{{"Put64MiB/crc-known", known}, {"Put64MiB/crc-trailer", object.Checksum{}}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Put(b.Context(), "big", object.Bytes(body), object.PutOptions{CRC32C: c.crc}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("Get4MiB", func(b *testing.B) {
		dst := make([]byte, 4<<20)
		b.SetBytes(int64(len(dst)))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := s.GetRange(b.Context(), "big", int64(i%16)<<22, dst); err != nil {
				b.Fatal(err)
			}
		}
	})
}
