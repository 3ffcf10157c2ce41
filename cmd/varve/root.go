package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// app is one invocation: its streams, environment and the flags that every command shares.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            []string

	brokers string
	format  string

	// running is set when a command's own code begins; an error before that is the command line's.
	running bool
}

// usageError is a command line that makes no sense, found after flags were parsed.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errSilent ends a command with exit code 1 after it has said everything itself.
var errSilent = errors.New("failed")

// run executes one command line and returns the exit code.
func (a *app) run(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	root := a.rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		fmt.Fprintln(a.stderr, "varve: interrupted")
		return exitFailed
	case errors.As(err, &usage) || !a.running:
		fmt.Fprintf(a.stderr, "varve: %s (see %s --help)\n", oneLine(err), cmd.CommandPath())
		return exitUsage
	default:
		fmt.Fprintf(a.stderr, "varve: %s\n", indentLines(err.Error()))
		return exitFailed
	}
}

// oneLine keeps cobra's suggestion lists from making an error several lines.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// indentLines keeps the lines of an error that lists several faults recognisable as one error.
func indentLines(s string) string {
	return strings.ReplaceAll(strings.TrimRight(s, "\n"), "\n", "\n  ")
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "varve",
		Short:         "An event log that speaks Kafka and keeps its long tail in object storage",
		Long:          "Varve is a Kafka-protocol event log: recent data on local disk, the rest in an S3-compatible store.\nOne binary is the broker and its command line.",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          a.group,

		SuggestionsMinimumDistance: 2,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.format != formatTable && a.format != formatJSON {
				return usagef("--format %q is neither table nor json", a.format)
			}
			return nil
		},
	}
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetIn(a.stdin)
	flags := root.PersistentFlags()
	flags.StringVarP(&a.brokers, "brokers", "b", a.getenv("VARVE_BROKERS", "127.0.0.1:9092"), "brokers to ask, `HOST:PORT[,...]` (VARVE_BROKERS)")
	flags.StringVar(&a.format, "format", formatTable, "output `FORMAT`: table or json")
	_ = root.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{formatTable, formatJSON}, cobra.ShellCompDirectiveNoFileComp))
	root.AddCommand(a.withTopics(a.produceCommand(), a.consumeCommand())...)
	root.AddCommand(a.serveCommand(), a.topicCommand(), a.groupCommand(), a.txnCommand(), a.tierCommand(),
		a.configCommand(), a.inspectCommand(), a.showCommand(), a.versionCommand())
	return root
}

// group is the body of a command that only holds others.
func (a *app) group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	message := fmt.Sprintf("unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		message += "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("%s", message)
}

// noun makes a group command.
func (a *app) noun(use, short string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: a.group, SuggestionsMinimumDistance: 2}
	cmd.AddCommand(children...)
	return cmd
}

// body wraps a command's code so that errors from here on are failures and not usage.
func (a *app) body(f func(cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		a.running = true
		return f(cmd, args)
	}
}

func (a *app) getenv(name, otherwise string) string {
	for _, entry := range a.env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok && value != "" {
			return value
		}
	}
	return otherwise
}

// requestTimeout bounds one administrative request. A broker that just lost its peers needs some
// seconds for an election; ten hide that, thirty only annoy.
const requestTimeout = 10 * time.Second
