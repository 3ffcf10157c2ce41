package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
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
		Long: `Read one file that Varve wrote and check all of it: a segment (.log) or its index (.index) from a
data directory, a cold object (.seg.lz4) or a manifest (.json) from a bucket. What it is is told from
its bytes. The exit code is 1 if anything in it is damaged.`,
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
		f, err := os.Open(args[0])
		if err != nil {
			return fmt.Errorf("inspect: %w", err)
		}
		defer f.Close()
		if err := a.inspect(f, o); err != nil {
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

func (a *app) inspect(f *os.File, o inspectOptions) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("is not a file")
	}
	size := info.Size()
	head, tail := make([]byte, min(17, size)), make([]byte, min(8, size))
	if _, err := f.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case string(tail) == magicCold:
		return a.inspectCold(f, size, o)
	case string(tail) == magicIndex:
		return a.inspectIndex(f, size)
	case bytes.HasPrefix(bytes.TrimLeft(head, " \n\t"), []byte("{")):
		return a.inspectManifest(f, size)
	case len(head) == 17 && head[16] == 2:
		return a.inspectSegment(f, size, o)
	case size == 0 || len(bytes.Trim(head, "\x00")) == 0:
		return errors.New("begins with zeros: a segment that nothing was written to, or no file of Varve")
	case len(head) >= 4 && binary.LittleEndian.Uint32(head) == 0x184d2204:
		return errors.New("begins as a cold object and has no footer: it is cut off")
	default:
		return errors.New("is no segment, index, cold object or manifest")
	}
}

// readTail reads the last n bytes of a file.
func readTail(f io.ReaderAt, size, n int64) ([]byte, error) {
	if n < 0 || n > size {
		return nil, fmt.Errorf("%d bytes are fewer than the %d that it needs", size, n)
	}
	b := make([]byte, n)
	if _, err := f.ReadAt(b, size-n); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
