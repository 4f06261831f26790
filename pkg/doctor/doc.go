// Package doctor looks at a node and says what is not as it should be, each
// with what to do about it. It changes nothing, and needs neither the agent nor
// the API server: what cannot be looked at is said to be so.
package doctor
