// Package expire removes backups, in an order that can be cut off anywhere.
//
// A backup exists while its head does. So the head goes first; then its file table
// and pack list, and the packs that no other backup names. What is left when the
// removal is killed is invisible, and Sweep removes it at another time: whatever no
// head names, and what is no part of a backup that is being made.
//
// Both hold the lock that a backup of the cluster holds, so that neither removes
// what the other needs.
package expire
