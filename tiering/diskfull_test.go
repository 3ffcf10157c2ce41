package tiering

import (
	"path/filepath"
	"testing"
)

func TestDiskCacheTakesNothingBelowTheReserve(t *testing.T) {
	full := true
	cfg := Config{CacheDir: filepath.Join(t.TempDir(), "cache"), DiskFull: func() bool { return full }}
	cfg.setDefaults()
	var st stats
	d, err := openDiskCache(&cfg, &st, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	d.offer(objectHash{1}, 0, make([]byte, 4096), nil)
	if st.diskShed.Load() != 1 || d.queued.Load() != 0 || len(d.queue) != 0 {
		t.Errorf("shed %d, queued %d bytes on a full disk", st.diskShed.Load(), d.queued.Load())
	}
	full = false
	d.offer(objectHash{1}, 0, make([]byte, 4096), nil)
	if len(d.queue) != 1 {
		t.Error("nothing taken once there is space again")
	}
	d.drain()
}
