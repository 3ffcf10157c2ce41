package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
)

const apiPrefix = "/api/v1/"

// Route is one JSON endpoint.
type Route struct {
	Method string // GET or POST
	Path   string // below /api/v1/, with {name} for what r.PathValue tells: a net/http pattern without method and host
	// Serve returns what is sent as JSON with status 200, or an error: an *Error as it says, any
	// other as 500. r.Context ends with the client or the broker; the body is bounded by MaxBody.
	Serve func(r *http.Request) (any, error)
}

// Error is an answer that is not 200. It is sent as
//
//	{"kind": "error", "version": 1, "code": Code, "message": Message, "error": Message, ...Extra}
type Error struct {
	Status  int // HTTP status
	Code    string
	Message string
	Extra   map[string]any
}

func (e *Error) Error() string { return e.Message }

// Errorf makes an Error.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// DecodeBody reads a JSON body of at most MaxBody bytes into v; unknown fields and anything after
// the value are refused. The error is an *Error with status 400 or 413.
func DecodeBody(r *http.Request, v any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("more than one value")
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return Errorf(http.StatusRequestEntityTooLarge, "too_large", "request body is longer than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return Errorf(http.StatusBadRequest, "bad_request", "decode request body: %v", err)
	}
	return nil
}

// endpoint is all methods of one path.
type endpoint map[string]Route

// addRoutes registers the endpoints, and JSON errors for all else below /api/.
func addRoutes(mux *http.ServeMux, cfg Config) (err error) {
	paths := map[string]endpoint{}
	for _, r := range cfg.Routes {
		path := apiPrefix + strings.TrimPrefix(strings.TrimPrefix(r.Path, apiPrefix), "/")
		if r.Method != http.MethodGet && r.Method != http.MethodPost {
			return fmt.Errorf("route %s %s: only GET and POST are served", r.Method, r.Path)
		}
		if paths[path] == nil {
			paths[path] = endpoint{}
		}
		if _, twice := paths[path][r.Method]; twice {
			return fmt.Errorf("route %s %s is there twice", r.Method, r.Path)
		}
		paths[path][r.Method] = r
	}
	defer func() { // ServeMux tells a bad pattern by a panic
		if p := recover(); p != nil {
			err = fmt.Errorf("route: %v", p)
		}
	}()
	for path, e := range paths {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) { e.serve(w, r, cfg.Log) })
	}
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		writeError(w, Errorf(http.StatusNotFound, "not_found", "no endpoint %s", r.URL.Path))
	})
	return nil
}

func (e endpoint) serve(w http.ResponseWriter, r *http.Request, log *slog.Logger) {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	route, ok := e[method]
	if !ok {
		allow := strings.Join(slices.Sorted(maps.Keys(e)), ", ")
		w.Header().Set("Allow", allow)
		writeError(w, Errorf(http.StatusMethodNotAllowed, "method_not_allowed", "%s takes %s", r.URL.Path, allow))
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
	answer, err := route.Serve(r)
	if err == nil {
		writeJSON(w, http.StatusOK, answer)
		return
	}
	var e2 *Error
	if !errors.As(err, &e2) {
		e2 = Errorf(http.StatusInternalServerError, "internal", "%v", err)
		if r.Context().Err() == nil {
			log.Warn("admin request", "method", r.Method, "path", r.URL.Path, "err", err)
		}
	}
	writeError(w, e2)
}

func writeError(w http.ResponseWriter, e *Error) {
	body := map[string]any{"kind": "error", "version": 1, "code": e.Code, "message": e.Message, "error": e.Message}
	maps.Copy(body, e.Extra)
	writeJSON(w, e.Status, body)
}

// writeJSON encodes before it writes the status, so that a value that cannot be encoded is an
// error to the client and not a cut answer.
func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		status = http.StatusInternalServerError
		b, _ = json.Marshal(map[string]any{"kind": "error", "version": 1, "code": "internal", "error": err.Error(), "message": err.Error()})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // an error means that the client is gone
}
