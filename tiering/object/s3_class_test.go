package object

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestS3SendsTheStorageClassOfEachPut(t *testing.T) {
	var got string
	f := newFakeS3(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Get("X-Amz-Storage-Class")
		w.Header().Set("ETag", `"e"`)
	})
	s := openTestS3(t, f.URL, "", Config{})
	for _, class := range []string{"STANDARD_IA", ""} {
		info, err := s.Put(t.Context(), "key", Bytes([]byte("x")), PutOptions{StorageClass: class})
		if err != nil || got != class || info.StorageClass != class {
			t.Errorf("class %q: the request has %q, the answer %q: %v", class, got, info.StorageClass, err)
		}
	}
	f.set(answerError(http.StatusBadRequest, "InvalidStorageClass", "The storage class you specified is not valid"))
	_, err := s.Put(t.Context(), "key", Bytes([]byte("x")), PutOptions{StorageClass: "STANDRAD"})
	if !errors.Is(err, ErrMisconfigured) || IsRetriable(err) || !strings.Contains(err.Error(), "varve.tier.storage.class") {
		t.Errorf("a class that the store does not have: %v", err)
	}
}

func TestStorageClassesThatNeedARestoreAreRefused(t *testing.T) {
	for class, ok := range map[string]bool{
		"": true, "STANDARD": true, "STANDARD_IA": true, "GLACIER_IR": true, "REDUCED_REDUNDANCY": true, "hot-1": true,
		"GLACIER": false, "deep_archive": false, "two words": false, "a\nb": false, strings.Repeat("X", 65): false,
	} {
		err := CheckStorageClass(class)
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%.20q: %v", class, err)
		}
	}
}
