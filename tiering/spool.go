package tiering

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// spool is the file of one upload slot. An object is built there before its PUT,
// because a PUT needs the length first and a retry starts again at byte 0, and
// neither may hold the object in memory. The file is overwritten by the next
// object: pages that exist already are cheap to write. It is never synced, and
// what a crash leaves in it means nothing.
type spool struct {
	f        *os.File
	pos      int64
	crc      uint32 // of everything before pos
	chunkCRC uint32
}

const (
	spoolPrefix = "upload-"
	spoolSuffix = ".spool"
	// maxSpoolKeep is what a slot's file keeps between uploads: two objects of the
	// default size. A larger one is cut, so that one huge segment does not hold its
	// space for ever.
	maxSpoolKeep = 256 << 20
)

func openSpool(dir string, slot int) (*spool, error) {
	f, err := os.OpenFile(filepath.Join(dir, spoolPrefix+strconv.Itoa(slot)+spoolSuffix), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	return &spool{f: f}, nil
}

// clearSpools removes the files of slots that are no longer configured.
func clearSpools(dir string) error {
	names, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list spool directory: %w", err)
	}
	for _, n := range names {
		if strings.HasPrefix(n.Name(), spoolPrefix) && strings.HasSuffix(n.Name(), spoolSuffix) {
			if err := os.Remove(filepath.Join(dir, n.Name())); err != nil {
				return fmt.Errorf("remove old spool: %w", err)
			}
		}
	}
	return nil
}

func (s *spool) reset() { s.pos, s.crc, s.chunkCRC = 0, 0, 0 }

func (s *spool) beginChunk() { s.chunkCRC = 0 }

func (s *spool) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if _, err := s.f.WriteAt(b, s.pos); err != nil {
		return fmt.Errorf("write spool: %w", err)
	}
	s.pos += int64(len(b))
	s.crc = crc32.Update(s.crc, castagnoli, b)
	s.chunkCRC = crc32.Update(s.chunkCRC, castagnoli, b)
	return nil
}

// release ends the use of the file for one object.
func (s *spool) release() error {
	if s.pos <= maxSpoolKeep {
		return nil
	}
	if err := s.f.Truncate(0); err != nil {
		return fmt.Errorf("cut spool: %w", err)
	}
	return nil
}

func (s *spool) close() error {
	name := s.f.Name()
	if err := s.f.Close(); err != nil {
		return fmt.Errorf("close spool: %w", err)
	}
	if err := os.Remove(name); err != nil {
		return fmt.Errorf("remove spool: %w", err)
	}
	return nil
}
