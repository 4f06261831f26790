package kubetest

import (
	"fmt"
	"net/http"
)

// Access is something that a user may or may not do.
type Access struct {
	User        string `json:"-"`
	Verb        string `json:"verb"`
	Group       string `json:"group"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
}

// WaitAllowed returns when the user may do it: the API server learns of a new
// role or binding a moment after it was written.
func (c *Cluster) WaitAllowed(access Access) error {
	return Poll(applyTime, func() (bool, error) {
		answer, err := c.Do(http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", map[string]any{
			"apiVersion": "authorization.k8s.io/v1",
			"kind":       "SubjectAccessReview",
			"spec":       map[string]any{"user": access.User, "resourceAttributes": access},
		})
		if err != nil {
			return false, err
		}
		var review struct {
			Status struct {
				Allowed bool
				Reason  string
			}
		}
		if err = answer.Into(&review); err != nil {
			return false, err
		}
		if !review.Status.Allowed {
			return false, fmt.Errorf("%s may not %s %s: %s", access.User, access.Verb, access.Resource, review.Status.Reason)
		}
		return true, nil
	})
}
