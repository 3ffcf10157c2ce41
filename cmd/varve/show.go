package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

// What the show pours: small segments and a small local limit, so that 210 MB show both tiers.
const (
	showTopic        = "go-src"
	showPartitions   = 8
	showSegmentBytes = 4 << 20
	showLocalBytes   = 4 << 20
	// showBatchBytes has room for the longest line of Go's source, the 1.4 MB of time/tzdata.
	showBatchBytes = 2 << 20
)

// show is one performance: pour, settle, kill -9, read.
type show struct {
	a      *app
	dir    string
	source *sourceTree
	child  *child
	lock   *os.File

	poured   pourResult
	killed   requestCount // what the broker had asked the store before it was killed
	readTook time.Duration
}

func (a *app) showCommand() *cobra.Command {
	var (
		dir, source string
		exit        bool
	)
	cmd := &cobra.Command{
		Use: "show", Short: "See the whole thing work: pour, settle, kill -9, read", Args: cobra.NoArgs,
		Long: `Start a broker with an empty directory, write every line of Go's own source into a topic,
wait until most of it is only in the object store, kill the broker with SIGKILL, start it again,
read everything back with an ordinary client and compare each record with its file.

The broker stays up afterwards for a look around; Ctrl-C stops it.`,
	}
	cmd.Flags().StringVar(&dir, "dir", ".run", "`DIR` of data and bucket; emptied at the start")
	cmd.Flags().StringVar(&source, "source", "", "tree of .go files to pour (default GOROOT/src)")
	cmd.Flags().BoolVar(&exit, "exit", false, "end after the read instead of keeping the broker up")
	cmd.RunE = a.body(func(cmd *cobra.Command, _ []string) error {
		s := &show{a: a, dir: dir}
		err := s.run(cmd.Context(), source, exit)
		if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
			return nil // Ctrl-C is how a show ends early
		}
		return err
	})
	return cmd
}

func (s *show) run(ctx context.Context, source string, exit bool) (err error) {
	if s.source, err = openSource(ctx, source); err != nil {
		return err
	}
	if err := s.emptyDir(); err != nil {
		return err
	}
	defer s.lock.Close()
	if s.child, err = newChild(s.dir, s.printf); err != nil {
		return err
	}
	s.printf("varve show: every line of %s Go files (%s) through one broker, its disk and a bucket",
		humanCount(int64(len(s.source.files))), humanBytes(s.source.bytes))
	defer func() {
		if stopErr := s.child.stop(); err == nil {
			err = stopErr
		}
	}()
	if err := s.child.start(ctx); err != nil {
		return err
	}
	s.printf("%s up on %s, data in %s, bucket in %s", actName("broker"), s.child.kafka, s.dir, filepath.Join(s.dir, "bucket"))
	if err := s.acts(ctx); err != nil {
		return err
	}
	if exit {
		return nil
	}
	s.printf("\nThe broker stays up; Ctrl-C stops it.")
	return s.child.wait(ctx)
}

// acts plays the four acts and the report. Any error is the end of the show, and exit code 1.
func (s *show) acts(ctx context.Context) error {
	for _, act := range []func(context.Context) error{s.pour, s.settle, s.kill, s.read, s.report} {
		if err := act(ctx); err != nil {
			return s.explain(ctx, err)
		}
	}
	return nil
}

// explain adds what the broker said if it is gone, which is then the cause of everything else.
func (s *show) explain(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if exitErr := s.child.exited(); exitErr != nil {
		return exitErr
	}
	return err
}

func (s *show) printf(format string, args ...any) {
	fmt.Fprintf(s.a.stdout, format+"\n", args...)
}

// showMarker is the file that says that a directory was made by a show and may be emptied.
const showMarker = ".varve-show"

// emptyDir makes the directory empty. It refuses a directory with anything in it that no show has
// made, and one in which another show runs.
func (s *show) emptyDir() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("open %s: %w", s.dir, err)
	}
	marker := filepath.Join(s.dir, showMarker)
	if _, err := os.Stat(marker); err != nil && len(entries) > 0 {
		return fmt.Errorf("%s holds files that are not from a show, so it is not emptied; use --dir with another name", s.dir)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", s.dir, err)
	}
	if s.lock, err = os.OpenFile(marker, os.O_CREATE|os.O_RDWR, 0o644); err != nil {
		return fmt.Errorf("mark %s: %w", s.dir, err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		s.lock.Close()
		return fmt.Errorf("another show runs in %s; stop it, or use --dir with another name", s.dir)
	}
	for _, e := range entries {
		if e.Name() == showMarker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.dir, e.Name())); err != nil {
			s.lock.Close()
			return fmt.Errorf("empty %s: %w", s.dir, err)
		}
	}
	return nil
}
