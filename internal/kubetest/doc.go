// Package kubetest gives tests a real etcd and a real kube-apiserver, started
// for one test or for all tests of a package, on loopback, with RBAC on.
//
// There is no controller-manager, scheduler or kubelet. So nobody makes the
// "default" service account, aggregated ClusterRoles such as "view" are empty,
// pods stay as they are posted and a deleted namespace stays Terminating.
//
// The weather can be made bad: [Cluster.StopAPI] and [Cluster.StartAPI] (same
// port, same etcd), [Cluster.FreezeAPI] and [Cluster.ThawAPI] (it accepts and
// says nothing), [Cluster.RotateCertificate] and [Cluster.RotateCA].
//
// Who asked the API server for what is in [Cluster.AuditLog].
//
// The functions return errors, so that TestMain can use them. Those that take
// a [testing.TB] wrap them and fail the test.
package kubetest
