package kubetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// AuditEntry is one request that the API server got.
type AuditEntry struct {
	ID        string
	User      string
	UserAgent string
	// Verb is Kubernetes' word: get, list, watch, create, patch ...
	Verb string
	URI  string
	// Group and the following are empty when URI is not a resource's.
	Group       string
	Resource    string
	Subresource string
	Namespace   string
	Name        string
	// Code is HTTP's.
	Code     int
	Received time.Time
	// Answered is when the answer was complete, if Ended.
	Answered time.Time
	// Ended is false for a watch that goes on, or that ended with an API
	// server that was killed.
	Ended bool
}

// String is the request without who and when, for counting.
func (e AuditEntry) String() string {
	if e.Resource == "" {
		return fmt.Sprintf("%s %s %d", e.Verb, e.URI, e.Code)
	}
	what := e.Resource
	if e.Subresource != "" {
		what += "/" + e.Subresource
	}
	where := strings.Trim(e.Namespace+"/"+e.Name, "/")
	if where == "" {
		return fmt.Sprintf("%s %s %d", e.Verb, what, e.Code)
	}
	return fmt.Sprintf("%s %s %s %d", e.Verb, what, where, e.Code)
}

// auditEvent is a line of the file: two for a watch, one for another request.
type auditEvent struct {
	AuditID    string
	Stage      string
	Verb       string
	RequestURI string
	UserAgent  string
	User       struct{ Username string }
	ObjectRef  struct {
		APIGroup, Resource, Subresource, Namespace, Name string
	}
	ResponseStatus           struct{ Code int }
	RequestReceivedTimestamp time.Time
	StageTimestamp           time.Time
}

// AuditLog returns all requests so far, in the order of their answers. Those
// that were answered before the call are in it; those that a killed API server
// did not answer are not.
func (c *Cluster) AuditLog() ([]AuditEntry, error) {
	if c.running() == nil {
		return c.readAudit()
	}
	// A line is written just after the answer: ask something, and read until
	// that is in the file.
	answer, err := c.Do(http.MethodGet, "/version", nil)
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	var entries []AuditEntry
	err = Poll(time.Minute, func() (bool, error) {
		var readErr error
		if entries, readErr = c.readAudit(); readErr != nil {
			return true, readErr
		}
		for _, entry := range entries {
			if entry.ID == answer.AuditID {
				return true, nil
			}
		}
		return false, errors.New("the last request is missing in the audit log")
	})
	return entries, err
}

func (c *Cluster) readAudit() ([]AuditEntry, error) {
	content, err := os.ReadFile(c.dir.File(fileAudit))
	if err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	var entries []AuditEntry
	at := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(content))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditEvent
		// What a killed API server wrote last may be half a line.
		if json.Unmarshal(lines.Bytes(), &event) != nil {
			continue
		}
		i, known := at[event.AuditID]
		if !known {
			i = len(entries)
			at[event.AuditID] = i
			entries = append(entries, AuditEntry{})
		}
		entries[i] = event.entry()
	}
	if err = lines.Err(); err != nil {
		return nil, fmt.Errorf("read audit log: %w", err)
	}
	return entries, nil
}

func (e auditEvent) entry() AuditEntry {
	return AuditEntry{
		ID:          e.AuditID,
		User:        e.User.Username,
		UserAgent:   e.UserAgent,
		Verb:        e.Verb,
		URI:         e.RequestURI,
		Group:       e.ObjectRef.APIGroup,
		Resource:    e.ObjectRef.Resource,
		Subresource: e.ObjectRef.Subresource,
		Namespace:   e.ObjectRef.Namespace,
		Name:        e.ObjectRef.Name,
		Code:        e.ResponseStatus.Code,
		Received:    e.RequestReceivedTimestamp,
		Answered:    e.StageTimestamp,
		Ended:       e.Stage != "ResponseStarted",
	}
}
