package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"varve/broker"
)

// stopTimeout bounds a clean stop; what is not stopped by then is recovered at the next start, as
// after a crash. A person waits three seconds and not five.
const stopTimeout = 2800 * time.Millisecond

func (a *app) serveCommand() *cobra.Command {
	var src broker.Sources
	cmd := &cobra.Command{
		Use: "serve", Short: "Run a broker", Args: cobra.NoArgs,
		Long: `Run a broker until it gets SIGINT or SIGTERM; a second signal ends it at once.

Settings come from, strongest first: flags, -X KEY=VALUE, the environment (VARVE_ and the key in
capitals, _ for .), the file of -c, defaults. "varve config explain" shows what won.`,
		Example: "  varve serve --dev\n  varve serve -c configs/minio.yaml\n  varve serve --data /var/lib/varve --store dir:///mnt/archive",
	}
	sourceFlags(cmd, &src)
	keyFlags(cmd)
	cmd.RunE = a.body(func(cmd *cobra.Command, _ []string) error {
		src.Flags, src.Env = flagValues(cmd), a.env
		cfg, err := broker.Load(src)
		if err != nil {
			return fmt.Errorf("configuration:\n%w", err)
		}
		cfg.LevelVar = new(slog.LevelVar)
		cfg.LevelVar.Set(logLevel(cfg.LogLevel))
		slog.SetDefault(newLogger(a.stderr, cfg.LogFormat, cfg.LevelVar, a.secrets()))
		limitMemory(a.getenv("GOMEMLIMIT", ""))
		paceCollector(a.getenv("GOGC", ""))
		return serve(cmd.Context(), cfg)
	})
	return cmd
}

// secrets are the values that must never reach a log line.
func (a *app) secrets() []string {
	var out []string
	for _, name := range []string{"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"} {
		if value := a.getenv(name, ""); value != "" {
			out = append(out, value)
		}
	}
	return out
}

func serve(ctx context.Context, cfg broker.Config) error {
	b, err := broker.Open(ctx, cfg)
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	runErr := b.Run(ctx)
	closed := make(chan error, 1)
	closeCtx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	go func() { closed <- b.Close(closeCtx) }()
	// A disk that hangs can hold Close; the process ends all the same, and the next start recovers.
	grace := time.NewTimer(stopTimeout + 100*time.Millisecond)
	defer grace.Stop()
	select {
	case err = <-closed:
	case <-grace.C:
		err = fmt.Errorf("stop took longer than %s; the next start recovers the logs", stopTimeout)
	}
	if runErr != nil {
		return runErr
	}
	if err == nil {
		slog.Info("broker stopped", "pid", os.Getpid())
	}
	return err
}
