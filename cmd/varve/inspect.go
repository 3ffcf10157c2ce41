package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"varve/broker/commitlog"
)

// inspectOptions is what the flags of inspect say.
type inspectOptions struct {
	records bool    // print records and not batches
	format  []piece // of records
	json    bool
}

func (a *app) inspectCommand() *cobra.Command {
	var o inspectOptions
	var format string
	cmd := &cobra.Command{
		Use: "inspect FILE", Short: "Read a segment, index, cold object or manifest with no broker running", Args: cobra.ExactArgs(1),
		Long: `Read one file that Varve wrote and check all of it: a segment (.log), its index (.index) or the start
file of a log from a data directory; a cold object (.seg.lz4), a manifest or page of one, a topic.json
or the tombstone of a deleted topic (.json) from a bucket. What it is is told from its bytes. Beside
its index a segment is read up to the length that the index says. The exit code is 1 if anything in
it is damaged.`,
	}
	cmd.Flags().BoolVarP(&o.records, "records", "r", false, "print the records of a segment or cold object")
	cmd.Flags().StringVarP(&format, "record-format", "f", `%o\t%d\t%k\t%v\n`, formatHelp)
	cmd.RunE = a.body(func(cmd *cobra.Command, args []string) error {
		var err error
		if o.format, err = parseFormat(format); err != nil {
			return usageError{err}
		}
		o.records = o.records || cmd.Flags().Changed("record-format")
		o.json = a.format == formatJSON
		if err := a.inspect(args[0], o); err != nil {
			return fmt.Errorf("inspect %s: %w", args[0], err)
		}
		return nil
	})
	return cmd
}

// The last eight bytes of a cold object and of a local index (tiering/FORMAT.md,
// broker/commitlog/FORMAT.md).
const (
	magicCold  = "VARVEIDX"
	magicIndex = "VARVEidx"
)

func (a *app) inspect(name string, o inspectOptions) error {
	info, err := os.Stat(name) // before it is opened: a pipe would wait for a writer
	if err != nil {
		return pathless(err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("is not a file")
	}
	f, err := os.Open(name)
	if err != nil {
		return pathless(err)
	}
	defer f.Close()
	size := info.Size()
	head, tail := make([]byte, min(17, size)), make([]byte, min(8, size))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	kind, batch := commitlog.KindOf(filepath.ToSlash(name)), len(head) == 17 && head[16] == 2
	switch {
	case batch && kind == commitlog.SegmentFile: // whatever the last record says
		return a.inspectSegment(name, o)
	case string(tail) == magicCold:
		return a.inspectCold(f, size, o)
	case string(tail) == magicIndex:
		return a.inspectIndex(name)
	case bytes.HasPrefix(bytes.TrimLeft(head, " \n\t"), []byte("{")):
		return a.inspectDocument(f, size)
	case batch:
		return a.inspectSegment(name, o)
	case kind == commitlog.IndexFile || kind == commitlog.StartFile:
		return fmt.Errorf("does not end as an index or start file does (%s): it is cut off or overwritten", magicIndex)
	case size == 0 || len(bytes.Trim(head, "\x00")) == 0:
		return errors.New("begins with zeros: a segment that nothing was written to, or no file of Varve")
	case len(head) >= 4 && binary.LittleEndian.Uint32(head) == 0x184d2204:
		return errors.New("begins as a cold object and has no footer: it is cut off")
	default:
		return errors.New("is no segment, index, cold object, manifest, page, topic.json or tombstone")
	}
}

// pathless is an error without the path, which the caller names.
func pathless(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
