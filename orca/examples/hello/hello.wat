;; A whole HTTP service in one screen: WAGI, that is CGI for WebAssembly.
;;
;; For every request the node starts this module afresh. The request is in the
;; environment (REQUEST_METHOD, PATH_INFO, …); what is written to standard output,
;; header lines, an empty line and a body, is the response.
;;
;; Memory:      16  scratch words and the one iovec of the final write
;;             256  constant text
;;            4096  the response being put together
;;          131072  the environment: pointers first, then the `NAME=value` strings
(module
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))

  (memory (export "memory") 16)
  (data (i32.const 256) "Content-Type: text/plain; charset=utf-8\n\nHello from Orca!\n\n") ;; 59 bytes
  (data (i32.const 320) "allocation  ORCA_ALLOCATION=") ;; a label of 12 bytes, then the variable that it shows
  (data (i32.const 352) "method      REQUEST_METHOD=")
  (data (i32.const 384) "path        PATH_INFO=")
  (data (i32.const 416) "\n")

  (global $end (mut i32) (i32.const 4096)) ;; where the next byte of the response goes
  (global $variables (mut i32) (i32.const 0)) ;; how many environment variables there are

  ;; Append `length` bytes at `from` to the response, as far as there is room.
  (func $append (param $from i32) (param $length i32)
    (if (i32.gt_u (i32.add (global.get $end) (local.get $length)) (i32.const 131072)) (then (return)))
    (memory.copy (global.get $end) (local.get $from) (local.get $length))
    (global.set $end (i32.add (global.get $end) (local.get $length))))

  ;; 1 when the string at `text` begins with the `length` bytes at `prefix`.
  (func $starts_with (param $text i32) (param $prefix i32) (param $length i32) (result i32)
    (loop $next
      (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
      (if (i32.ne (i32.load8_u (local.get $text)) (i32.load8_u (local.get $prefix))) (then (return (i32.const 0))))
      (local.set $text (i32.add (local.get $text) (i32.const 1)))
      (local.set $prefix (i32.add (local.get $prefix) (i32.const 1)))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br $next))
    (unreachable))

  ;; One line of the answer: the 12 bytes of the label, then the value of the variable
  ;; whose `NAME=`, `length` bytes long, follows the label.
  (func $show (param $label i32) (param $length i32) (local $i i32) (local $text i32) (local $stop i32)
    (call $append (local.get $label) (i32.const 12))
    (block $done
      (loop $next
        (br_if $done (i32.ge_u (local.get $i) (global.get $variables)))
        (local.set $text (i32.load (i32.add (i32.const 131072) (i32.mul (local.get $i) (i32.const 4)))))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $next
          (i32.eqz (call $starts_with (local.get $text) (i32.add (local.get $label) (i32.const 12)) (local.get $length))))
        (local.set $text (i32.add (local.get $text) (local.get $length)))
        (local.set $stop (local.get $text))
        (block $ended ;; the value goes on to its NUL
          (loop $more
            (br_if $ended (i32.eqz (i32.load8_u (local.get $stop))))
            (local.set $stop (i32.add (local.get $stop) (i32.const 1)))
            (br $more)))
        (call $append (local.get $text) (i32.sub (local.get $stop) (local.get $text)))))
    (call $append (i32.const 416) (i32.const 1)))

  (func (export "_start")
    ;; Read the environment; one that does not fit is an error, not an overrun.
    (if (call $environ_sizes_get (i32.const 16) (i32.const 20)) (then (call $proc_exit (i32.const 1))))
    (global.set $variables (i32.load (i32.const 16)))
    (if (i32.gt_u (global.get $variables) (i32.const 65536)) (then (call $proc_exit (i32.const 1))))
    (if (call $environ_get
          (i32.const 131072)
          (i32.add (i32.const 131072) (i32.mul (global.get $variables) (i32.const 4))))
      (then (call $proc_exit (i32.const 1))))

    (call $append (i32.const 256) (i32.const 59))
    (call $show (i32.const 320) (i32.const 16))
    (call $show (i32.const 352) (i32.const 15))
    (call $show (i32.const 384) (i32.const 10))

    ;; Write it all: an iovec of (address, length), to file descriptor 1.
    (i32.store (i32.const 24) (i32.const 4096))
    (i32.store (i32.const 28) (i32.sub (global.get $end) (i32.const 4096)))
    (drop (call $fd_write (i32.const 1) (i32.const 24) (i32.const 1) (i32.const 16)))))
