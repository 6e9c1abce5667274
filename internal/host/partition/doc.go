// Package partition reads the partition table of a disk: GPT, or the older MBR
// with its logical partitions.
//
// A kernel may have no parser for either, and what is on a copy of a LUN is to
// be known without anything being made of it. So the table is read here, from
// anything that can be read at an offset. Nothing is trusted: a table that
// contradicts itself, reaches beyond the disk or has partitions that overlap is
// refused as a whole, with the reason. A GPT whose beginning is damaged is read
// from the backup at its end, and that is said.
//
// Numbers are those that Linux gives: a GPT's place in the table, and in an MBR
// 1 to 4 and from 5 on for logical partitions. Umbra finds volumes by their bytes;
// numbers are for people.
package partition
