package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	txnRecords = 100
	txnValue   = 100
	txnRounds  = 21 // the first one warms up
	txnInRound = 100
)

// rowTransactions has one producer run transactions of 100 records, one after the other, each
// committed before the next begins, so that each waits for the markers of the one before. In turns
// with it the same client sends the same records without a transaction, acks=all: that is one group
// commit.
func rowTransactions(l *lab) (*result, error) {
	b, err := l.startBroker("")
	if err != nil {
		return nil, err
	}
	if _, err := ensureTopic(b.addr, "txn", 1, 1); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	records := make([]*kgo.Record, txnRecords)
	one := func(cl *kgo.Client) error {
		for i := range records {
			records[i] = &kgo.Record{Topic: "txn", Value: make([]byte, txnValue)}
		}
		return cl.ProduceSync(ctx, records...).FirstErr()
	}
	plain, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.ProducerLinger(0))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.addr), kgo.ProducerLinger(0), kgo.TransactionalID("bench"))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	inTxn := func() error {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		if err := one(cl); err != nil {
			return err
		}
		return cl.EndTransaction(ctx, kgo.TryCommit)
	}
	var commits, txns []time.Duration
	busy := time.Duration(0)
	for round := range txnRounds {
		c, err := timed(func() error { return one(plain) })
		if err != nil {
			return nil, err
		}
		x, err := timed(inTxn)
		if err != nil {
			return nil, err
		}
		if round > 0 {
			commits, txns = append(commits, c...), append(txns, x...)
		}
	}
	for _, d := range txns {
		busy += d
	}
	slices.Sort(commits)
	slices.Sort(txns)
	sync, err := syncP50(l.dir)
	if err != nil {
		return nil, err
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	r := newResult()
	r.atMost("p50 of a transaction, in durable produces of the same records", ms(txns[len(txns)/2])/ms(commits[len(commits)/2]), "", 4, 1, "one durable produce")
	r.atLeast("transactions a second, one producer", float64(len(txns))/busy.Seconds(), "1/s", 300, 0, "")
	r.Details["txn_p50_ms"], r.Details["txn_p99_ms"] = ms(txns[len(txns)/2]), ms(txns[len(txns)*99/100])
	r.Details["produce_p50_ms"], r.Details["fdatasync_p50_ms"] = ms(commits[len(commits)/2]), ms(sync)
	return r, nil
}

// timed runs f a round's times.
func timed(f func() error) (all []time.Duration, err error) {
	for range txnInRound {
		at := time.Now()
		if err := f(); err != nil {
			return nil, err
		}
		all = append(all, time.Since(at))
	}
	return all, nil
}

// syncP50 is the median of a small overwrite and its sync in a file of the same disk.
func syncP50(dir string) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	b := make([]byte, 4096)
	var all []time.Duration
	for i := range 300 {
		at := time.Now()
		if _, err := f.WriteAt(b, int64(i%16)*4096); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(at))
	}
	slices.Sort(all[16:])
	return all[16:][len(all[16:])/2], nil
}
