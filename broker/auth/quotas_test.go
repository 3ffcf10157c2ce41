package auth

import (
	"fmt"
	"testing"
	"time"
)

var t0 = time.Unix(1_700_000_000, 0)

func named(user, client string, limit float64) Rule {
	r := Rule{User: user, Client: client, Limits: map[QuotaKind]float64{ProduceBytes: limit}}
	match := func(name *string) Match {
		switch *name {
		case "":
			return MatchNothing
		case "*":
			*name = ""
			return MatchDefault
		}
		return MatchName
	}
	r.UserMatch, r.ClientMatch = match(&r.User), match(&r.Client)
	return r
}

func TestTheMostSpecificQuotaCounts(t *testing.T) {
	// Each rule is the one that counts until it is taken away, in the order of KIP-55.
	list := []Rule{
		named("u", "c", 8), named("u", "*", 7), named("u", "", 6),
		named("*", "c", 5), named("*", "*", 4), named("*", "", 3),
		named("", "c", 2), named("", "*", 1),
	}
	for len(list) > 0 {
		q := NewQuotas(time.Second)
		q.Set(list)
		if most, ok := q.Most(ProduceBytes, "u", "c"); !ok || most != float64(len(list)) {
			t.Errorf("with %d rules the limit is %v", len(list), most)
		}
		list = list[1:]
	}
	q := NewQuotas(time.Second)
	q.Set([]Rule{named("u", "c", 8)})
	for _, other := range [][2]string{{"u", "d"}, {"v", "c"}, {"", ""}} {
		if wait := q.Charge(ProduceBytes, other[0], other[1], 1e9, t0); wait != 0 {
			t.Errorf("%v waits %v for somebody else's limit", other, wait)
		}
	}
	if wait := q.Charge(FetchBytes, "u", "c", 1e9, t0); wait != 0 {
		t.Errorf("another kind waits %v", wait)
	}
}

func TestAClientWaitsForWhatItTookBeyondItsRate(t *testing.T) {
	q := NewQuotas(10 * time.Second)
	q.Set([]Rule{named("", "*", 100)})
	take := func(n float64, now time.Time, want time.Duration) {
		t.Helper()
		if wait := q.Charge(ProduceBytes, "u", "c", n, now); wait != want {
			t.Errorf("%v bytes: wait %v, want %v", n, wait, want)
		}
	}
	take(1000, t0, 0)                                 // the whole window at once
	take(50, t0, 500*time.Millisecond)                // half a second beyond it
	take(0, t0.Add(200*time.Millisecond), 3e8)        // which passes
	take(0, t0.Add(time.Second), 0)                   // and is over
	take(1000, t0.Add(time.Hour), 0)                  // an hour of silence is worth one window
	take(1, t0.Add(time.Hour), 10*time.Millisecond)   // and no more
	take(0, t0.Add(time.Minute), 10*time.Millisecond) // a clock that goes back gives nothing
	take(1e12, t0.Add(time.Hour), time.Hour)          // a wait has a bound
}

func TestARuleForUsersIsOneBudgetForAllTheirClients(t *testing.T) {
	q := NewQuotas(time.Second)
	q.Set([]Rule{named("*", "", 10)})
	q.Charge(ProduceBytes, "u", "a", 10, t0)
	if wait := q.Charge(ProduceBytes, "u", "b", 10, t0); wait != time.Second {
		t.Errorf("the second client of a user waits %v", wait)
	}
	if wait := q.Charge(ProduceBytes, "v", "b", 10, t0); wait != 0 {
		t.Errorf("another user waits %v", wait)
	}
	q.Set([]Rule{named("", "*", 10)})
	q.Charge(ProduceBytes, "u", "x", 10, t0)
	if wait := q.Charge(ProduceBytes, "v", "x", 10, t0); wait != time.Second {
		t.Errorf("the second user of a client id waits %v", wait)
	}
}

func TestAClientThatOwesIsRefusedAndNotCharged(t *testing.T) {
	q := NewQuotas(time.Second)
	q.Set([]Rule{{ClientMatch: MatchDefault, Limits: map[QuotaKind]float64{Mutations: 10}}})
	if wait, ok := q.TryCharge(Mutations, "u", "c", 20, t0); !ok || wait != time.Second {
		t.Fatalf("first: %v %v", wait, ok)
	}
	for range 3 {
		if wait, ok := q.TryCharge(Mutations, "u", "c", 20, t0); ok || wait != time.Second {
			t.Fatalf("while it owes: %v %v", wait, ok)
		}
	}
	if _, ok := q.TryCharge(Mutations, "u", "c", 1, t0.Add(time.Second)); !ok {
		t.Error("refused after it had waited")
	}
}

func TestAChangedLimitCountsAtOnce(t *testing.T) {
	q := NewQuotas(time.Second)
	q.Set([]Rule{named("u", "", 10)})
	if wait := q.Charge(ProduceBytes, "u", "c", 20, t0); wait != time.Second {
		t.Fatal(wait)
	}
	q.Set([]Rule{named("u", "", 100)})
	if wait := q.Charge(ProduceBytes, "u", "c", 0, t0); wait != 100*time.Millisecond {
		t.Errorf("after the limit rose: %v", wait)
	}
	q.Set(nil)
	if q.Limited(ProduceBytes) || q.Charge(ProduceBytes, "u", "c", 1e9, t0) != 0 {
		t.Error("limited without a rule")
	}
}

func TestFreeClientIDsDoNotTakeMemoryWithoutEnd(t *testing.T) {
	q := NewQuotas(time.Second)
	q.Set([]Rule{named("", "*", 10)})
	for i := range 2 * maxTracked { // all owe, so none can go
		q.Charge(ProduceBytes, "u", fmt.Sprint("owes-", i), 20, t0)
	}
	if n := len(q.budgets); n > maxTracked+int(quotaKinds) {
		t.Fatalf("%d budgets are kept", n)
	}
	if wait := q.Charge(ProduceBytes, "u", "owes-0", 0, t0); wait != time.Second {
		t.Errorf("a budget that was known is gone: %v", wait)
	}
	if wait := q.Charge(ProduceBytes, "u", "newcomer", 0, t0); wait < time.Second {
		t.Errorf("beyond the limit the budget is shared: %v", wait)
	}
	q.Charge(ProduceBytes, "u", "later", 20, t0.Add(time.Hour)) // all others are full again
	if n := len(q.budgets); n > 2 {                             // its own, and the shared one
		t.Errorf("%d budgets after an hour of silence", n)
	}
}
