package auth

import (
	"sync"
	"sync/atomic"
	"time"
)

// QuotaKind is what a quota limits.
type QuotaKind uint8

// The kinds of quotas; each limit is per second.
const (
	ProduceBytes QuotaKind = iota
	FetchBytes
	RequestTime // seconds of work in a second
	Mutations   // partitions created or deleted (KIP-599)
	Connections // of one address (KIP-612)
	quotaKinds
)

// Match says which names a rule is for.
type Match uint8

// Of a part of a rule: it does not look at this part, is for everybody without a rule of his own,
// or for one name.
const (
	MatchNothing Match = iota
	MatchDefault
	MatchName
)

// Rule sets limits for users, client ids or both; or, for Connections, for an address in User.
type Rule struct {
	User, Client           string
	UserMatch, ClientMatch Match
	Limits                 map[QuotaKind]float64
}

// scope is to whom a rule applies.
type scope struct {
	user, client           string
	userMatch, clientMatch Match
}

// rules is an immutable table of what is set.
type rules struct {
	by  map[scope][quotaKinds]float64 // 0: not limited here
	has [quotaKinds]bool
}

// precedence is the order in which rules are looked for; the first that limits the kind counts
// (KIP-55).
var precedence = [...][2]Match{
	{MatchName, MatchName},
	{MatchName, MatchDefault},
	{MatchName, MatchNothing},
	{MatchDefault, MatchName},
	{MatchDefault, MatchDefault},
	{MatchDefault, MatchNothing},
	{MatchNothing, MatchName},
	{MatchNothing, MatchDefault},
}

// find gives the limit of a kind for a client, 0 if it has none, and whom it shares that with:
// a rule for users is one budget for all clients of a user, and the other way round.
func (r *rules) find(kind QuotaKind, user, client string) (limit float64, who tracked) {
	for _, p := range precedence {
		s := scope{userMatch: p[0], clientMatch: p[1]}
		if p[0] == MatchName {
			s.user = user
		}
		if p[1] == MatchName {
			s.client = client
		}
		if limit := r.by[s][kind]; limit > 0 {
			who = tracked{kind: kind, hasUser: p[0] != MatchNothing, hasClient: p[1] != MatchNothing}
			if who.hasUser {
				who.user = user
			}
			if who.hasClient {
				who.client = client
			}
			return limit, who
		}
	}
	return 0, tracked{}
}

// tracked names one budget.
type tracked struct {
	kind               QuotaKind
	hasUser, hasClient bool
	user, client       string
}

const (
	// maxTracked bounds the budgets that are remembered; client ids are free text. 10,000 take
	// some 2 MiB.
	maxTracked = 10_000
	// sweepEvery is how often a full table is searched for budgets that nobody uses.
	sweepEvery = time.Second
	// maxThrottle is the longest that a client is told to wait. What it owes beyond that is kept.
	maxThrottle = time.Hour
)

// Quotas holds the budgets of clients as token buckets: what was not used within the window may be
// used at once, which is what Kafka's average over the same window allows too. All methods are safe
// for concurrent use.
type Quotas struct {
	window time.Duration
	rules  atomic.Pointer[rules] // nil: nobody is limited

	mu      sync.Mutex
	budgets map[tracked]*budget // at most maxTracked, and one of each kind for those beyond
	swept   time.Time
}

// budget is the tokens of one client: below 0 it owes.
type budget struct {
	tokens, rate float64
	at           time.Time
}

// NewQuotas makes the budgets. window is the time over which rates are averaged.
func NewQuotas(window time.Duration) *Quotas {
	return &Quotas{window: window, budgets: map[tracked]*budget{}}
}

// Set replaces all rules. Budgets go on with what they have.
func (q *Quotas) Set(list []Rule) {
	if len(list) == 0 {
		q.rules.Store(nil)
		q.mu.Lock()
		clear(q.budgets)
		q.mu.Unlock()
		return
	}
	r := &rules{by: make(map[scope][quotaKinds]float64, len(list))}
	for _, rule := range list {
		s := scope{rule.User, rule.Client, rule.UserMatch, rule.ClientMatch}
		limits := r.by[s]
		for kind, limit := range rule.Limits {
			limits[kind] = limit
			r.has[kind] = r.has[kind] || limit > 0
		}
		r.by[s] = limits
	}
	q.rules.Store(r)
}

// Limited tells whether any rule limits the kind: if not, nothing need be measured. A nil Quotas
// limits nobody.
func (q *Quotas) Limited(kind QuotaKind) bool {
	if q == nil {
		return false
	}
	r := q.rules.Load()
	return r != nil && r.has[kind]
}

// Charge takes an amount from a client's budget and tells how long it has to pause; 0 if it owes
// nothing.
func (q *Quotas) Charge(kind QuotaKind, user, client string, amount float64, now time.Time) time.Duration {
	b, limit := q.lockBudget(kind, user, client, now)
	if b == nil {
		return 0
	}
	defer q.mu.Unlock()
	b.tokens -= amount
	return pause(b.tokens, limit)
}

// TryCharge is Charge, but takes nothing from a client that already owes; then ok is false.
func (q *Quotas) TryCharge(kind QuotaKind, user, client string, amount float64, now time.Time) (wait time.Duration, ok bool) {
	b, limit := q.lockBudget(kind, user, client, now)
	if b == nil {
		return 0, true
	}
	defer q.mu.Unlock()
	if b.tokens < 0 {
		return pause(b.tokens, limit), false
	}
	b.tokens -= amount
	return pause(b.tokens, limit), true
}

// Most is what a client may take at one time: its limit over the whole window. ok is false if it
// has no limit.
func (q *Quotas) Most(kind QuotaKind, user, client string) (most float64, ok bool) {
	r := q.rules.Load()
	if r == nil || !r.has[kind] {
		return 0, false
	}
	limit, _ := r.find(kind, user, client)
	return limit * q.window.Seconds(), limit > 0
}

// lockBudget finds a client's budget as of now and locks mu; nil, and not locked, without a limit.
func (q *Quotas) lockBudget(kind QuotaKind, user, client string, now time.Time) (*budget, float64) {
	r := q.rules.Load()
	if r == nil || !r.has[kind] {
		return nil, 0
	}
	limit, who := r.find(kind, user, client)
	if limit <= 0 {
		return nil, 0
	}
	q.mu.Lock()
	b := q.budgets[who]
	if b == nil {
		b = q.addLocked(who, limit, now)
	}
	b.refill(limit, q.window, now)
	return b, limit
}

// addLocked makes a budget. Where there are too many, those that are full go: they say nothing. If
// all are in use, the newcomer shares one budget with everybody else beyond the limit.
func (q *Quotas) addLocked(who tracked, limit float64, now time.Time) *budget {
	if len(q.budgets) >= maxTracked && now.Sub(q.swept) >= sweepEvery {
		q.swept = now
		for key, b := range q.budgets {
			if b.refill(b.rate, q.window, now); b.tokens >= b.rate*q.window.Seconds() {
				delete(q.budgets, key)
			}
		}
	}
	if len(q.budgets) >= maxTracked {
		who = tracked{kind: who.kind}
		if b := q.budgets[who]; b != nil {
			return b
		}
	}
	b := &budget{tokens: limit * q.window.Seconds(), at: now}
	q.budgets[who] = b
	return b
}

func (b *budget) refill(rate float64, window time.Duration, now time.Time) {
	if now.After(b.at) {
		b.tokens += rate * now.Sub(b.at).Seconds()
		b.at = now
	}
	b.rate = rate
	b.tokens = min(b.tokens, rate*window.Seconds())
}

// pause is how long tokens below 0 take to come back.
func pause(tokens, rate float64) time.Duration {
	if tokens >= 0 {
		return 0
	}
	seconds := -tokens / rate
	if seconds >= maxThrottle.Seconds() {
		return maxThrottle
	}
	// Clients are told whole milliseconds; one that waits for 0 would not wait at all.
	return max(time.Duration(seconds*float64(time.Second)), time.Millisecond)
}
