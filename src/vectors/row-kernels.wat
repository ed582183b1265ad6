;; Loops over rows of float32 in SIMD, four or eight values at a time, which JavaScript has no words
;; for. row-kernels.ts carries this module assembled; its test assembles it anew and compares.
;;
;; Values come in from byte 0 on, up to 32 kB of them; halves go out from byte 32,768 on. Constants
;; that a loop needs lie at the end of the memory and are kept in registers: as literals the
;; compiler of Bun 1.4.5 makes them anew in each turn, a third more time.
(module
  (memory (export "memory") 1)
  (data (i32.const 65472)
    "\ff\ff\ff\7f"   ;; all but the sign
    "\ff\0f\00\c8"   ;; the exponent's bias, less 112, and just under half of the last bit kept
    "\00\80\00\80"   ;; the signs of two halves
    "\00\7c\00\7c"   ;; added to two halves: of those from 2^-14 to 65,504 it makes
    "\ff\f7\ff\f7")  ;; the least numbers, up to this one; halves are below and above

  ;; Float32 to float16: to the nearest, ties to even. `count` is a multiple of eight. All values are
  ;; converted as $normalHalf does; $up makes one comparison of whether the eight are normal halves.
  (func (export "toFloat16") (param $count i32)
    (local $from i32) (local $to i32) (local $end i32)
    (local $a v128) (local $b v128) (local $x v128) (local $y v128) (local $h v128)
    (local $allButSign v128) (local $bias v128) (local $sign v128) (local $up v128) (local $top v128)
    (local.set $allButSign (v128.load32_splat (i32.const 65472)))
    (local.set $bias (v128.load32_splat (i32.const 65476)))
    (local.set $sign (v128.load32_splat (i32.const 65480)))
    (local.set $up (v128.load32_splat (i32.const 65484)))
    (local.set $top (v128.load32_splat (i32.const 65488)))
    (local.set $to (i32.const 32768))
    (local.set $end (i32.shl (local.get $count) (i32.const 2)))
    (loop $next
      (local.set $a (v128.load (local.get $from)))
      (local.set $b (v128.load offset=16 (local.get $from)))
      (local.set $x (v128.and (local.get $a) (local.get $allButSign)))
      (local.set $y (v128.and (local.get $b) (local.get $allButSign)))
      (local.set $h
        (i16x8.narrow_i32x4_s
          (i32x4.shr_s
            (i32x4.sub
              (i32x4.add (local.get $x) (local.get $bias))
              (i32x4.shr_s (i32x4.shl (local.get $x) (i32.const 18)) (i32.const 31)))
            (i32.const 13))
          (i32x4.shr_s
            (i32x4.sub
              (i32x4.add (local.get $y) (local.get $bias))
              (i32x4.shr_s (i32x4.shl (local.get $y) (i32.const 18)) (i32.const 31)))
            (i32.const 13))))
      (v128.store (local.get $to)
        (if (result v128)
          (v128.any_true (i16x8.gt_s (i16x8.add (local.get $h) (local.get $up)) (local.get $top)))
          (then
            (i16x8.narrow_i32x4_s (call $anyHalf (local.get $a)) (call $anyHalf (local.get $b))))
          (else ;; The sign of each is the highest bit of its upper half.
            (v128.or
              (local.get $h)
              (v128.and
                (local.get $sign)
                (i16x8.narrow_i32x4_s
                  (i32x4.shr_s (local.get $a) (i32.const 16))
                  (i32x4.shr_s (local.get $b) (i32.const 16))))))))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (br_if $next
        (i32.lt_u (local.tee $from (i32.add (local.get $from) (i32.const 32))) (local.get $end)))))

  ;; The bits of a normal half without its sign. The bit that will be the last is added to the
  ;; rounding bias: a tie then goes to the even one.
  (func $normalHalf (param $abs v128) (result v128)
    (i32x4.shr_u
      (i32x4.sub
        (i32x4.add (local.get $abs) (v128.const i32x4 0xc8000fff 0xc8000fff 0xc8000fff 0xc8000fff))
        (i32x4.shr_s (i32x4.shl (local.get $abs) (i32.const 18)) (i32.const 31)))
      (i32.const 13)))

  ;; Any value's half. One below 2^-14 is added to 0.5, whose last bit has the weight of a
  ;; subnormal's: the addition rounds it. Those from 65,536 on are infinite; NaN stays NaN.
  (func $anyHalf (param $value v128) (result v128)
    (local $abs v128)
    (local.set $abs (v128.and (local.get $value)
      (v128.const i32x4 0x7fffffff 0x7fffffff 0x7fffffff 0x7fffffff)))
    (v128.or
      (v128.bitselect
        (v128.bitselect
          (i32x4.sub
            (f32x4.add (local.get $abs) (v128.const f32x4 0.5 0.5 0.5 0.5))
            (v128.const f32x4 0.5 0.5 0.5 0.5))
          (call $normalHalf (local.get $abs))
          (i32x4.lt_u (local.get $abs)
            (v128.const i32x4 0x38800000 0x38800000 0x38800000 0x38800000)))
        (v128.or
          (v128.const i32x4 0x7c00 0x7c00 0x7c00 0x7c00)
          (v128.and
            (v128.const i32x4 0x200 0x200 0x200 0x200)
            (i32x4.gt_u (local.get $abs)
              (v128.const i32x4 0x7f800000 0x7f800000 0x7f800000 0x7f800000))))
        (i32x4.lt_u (local.get $abs)
          (v128.const i32x4 0x47800000 0x47800000 0x47800000 0x47800000)))
      (i32x4.shr_s
        (v128.and (local.get $value)
          (v128.const i32x4 0x80000000 0x80000000 0x80000000 0x80000000))
        (i32.const 16))))

  ;; Whether each row's squared length, summed in float32, is from `low` to `high`. A row has a
  ;; multiple of 16 values. NaN is in no range.
  (func (export "lengthsAreWithin")
    (param $rowCount i32) (param $dimension i32) (param $low f32) (param $high f32) (result i32)
    (local $at i32) (local $end i32) (local $sum f32)
    (local $a v128) (local $b v128) (local $c v128) (local $d v128) (local $v v128)
    (loop $row
      (local.set $a (v128.const i32x4 0 0 0 0))
      (local.set $b (local.get $a))
      (local.set $c (local.get $a))
      (local.set $d (local.get $a))
      (local.set $end (i32.add (local.get $at) (i32.shl (local.get $dimension) (i32.const 2))))
      (loop $next
        (local.set $v (v128.load (local.get $at)))
        (local.set $a (f32x4.add (local.get $a) (f32x4.mul (local.get $v) (local.get $v))))
        (local.set $v (v128.load offset=16 (local.get $at)))
        (local.set $b (f32x4.add (local.get $b) (f32x4.mul (local.get $v) (local.get $v))))
        (local.set $v (v128.load offset=32 (local.get $at)))
        (local.set $c (f32x4.add (local.get $c) (f32x4.mul (local.get $v) (local.get $v))))
        (local.set $v (v128.load offset=48 (local.get $at)))
        (local.set $d (f32x4.add (local.get $d) (f32x4.mul (local.get $v) (local.get $v))))
        (br_if $next
          (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 64))) (local.get $end))))
      (local.set $v (f32x4.add
        (f32x4.add (local.get $a) (local.get $b)) (f32x4.add (local.get $c) (local.get $d))))
      (local.set $sum (f32.add
        (f32.add (f32x4.extract_lane 0 (local.get $v)) (f32x4.extract_lane 1 (local.get $v)))
        (f32.add (f32x4.extract_lane 2 (local.get $v)) (f32x4.extract_lane 3 (local.get $v)))))
      (if (i32.eqz (i32.and
            (f32.ge (local.get $sum) (local.get $low))
            (f32.le (local.get $sum) (local.get $high))))
        (then (return (i32.const 0))))
      (br_if $row (local.tee $rowCount (i32.sub (local.get $rowCount) (i32.const 1)))))
    (i32.const 1)))
