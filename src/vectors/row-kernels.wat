;; Loops over rows of float32 in SIMD, four or eight values at a time, which JavaScript has no words
;; for. row-kernels.ts carries this module assembled; its test assembles it anew and compares.
;;
;; Values come in from byte 0 on, up to 16 kB of them; halves go out from byte 16,384 on. Constants
;; that a loop needs lie at the end of the memory and are kept in registers: as literals the
;; compiler of Bun 1.4.5 makes them anew in each turn, a third more time.
(module
  (memory (export "memory") 1)
  (data (i32.const 65472)
    "\ff\ff\ff\7f"   ;; all but the sign
    "\00\80\00\80"   ;; the signs of two halves
    "\00\00\80\7f"   ;; the exponent
    "\00\00\80\47"   ;; 65,536
    "\00\00\80\38"   ;; 2^-14, the least normal half: its exponent, and nothing else
    "\00\00\80\06"   ;; 13 of the exponent
    "\01\00\08\00"   ;; the weights of the lower and the upper 16 bits: 1 and 8
    "\00\f8\01\00")  ;; 126 × 1,024

  ;; Float32 to float16: to the nearest, ties to even. `count` is a multiple of eight.
  ;;
  ;; The addition rounds. A value whose exponent is e gets 2^(e + 13) added, whose last bit has the
  ;; weight of the half's last bit; the sum's lower 16 bits then count such weights, 1,024 to 2,048 of
  ;; them, and its upper 16 are the exponent times 128. Of both the dot product makes the half:
  ;;
  ;;     lower + 8 × upper = half + $excess
  ;;
  ;; Below 2^-14 all halves have one exponent, so e is never less: subnormals need nothing more. From
  ;; 65,520 on the half comes out as infinity, and NaN as the largest of 16 bits, which is NaN, since
  ;; narrowing saturates. It gives the sign likewise: a float's bits are negative where the float is.
  ;;
  ;; No shifts: of each, even by a constant, the compiler of Bun 1.4.5 makes four instructions.
  (func (export "toFloat16") (param $count i32)
    (local $from i32) (local $to i32) (local $end i32)
    (local $a v128) (local $b v128) (local $x v128) (local $y v128)
    (local $allButSign v128) (local $sign v128) (local $exponent v128) (local $most v128)
    (local $least v128) (local $thirteen v128) (local $weights v128) (local $excess v128)
    (local.set $allButSign (v128.load32_splat (i32.const 65472)))
    (local.set $sign (v128.load32_splat (i32.const 65476)))
    (local.set $exponent (v128.load32_splat (i32.const 65480)))
    (local.set $most (v128.load32_splat (i32.const 65484)))
    (local.set $least (v128.load32_splat (i32.const 65488)))
    (local.set $thirteen (v128.load32_splat (i32.const 65492)))
    (local.set $weights (v128.load32_splat (i32.const 65496)))
    (local.set $excess (v128.load32_splat (i32.const 65500)))
    (local.set $to (i32.const 16384))
    (local.set $end (i32.shl (local.get $count) (i32.const 2)))
    (loop $next
      (local.set $a (v128.load (local.get $from)))
      (local.set $b (v128.load offset=16 (local.get $from)))
      (local.set $x
        (f32x4.pmin (v128.and (local.get $a) (local.get $allButSign)) (local.get $most)))
      (local.set $y
        (f32x4.pmin (v128.and (local.get $b) (local.get $allButSign)) (local.get $most)))
      (v128.store (local.get $to)
        (v128.or
          (v128.and (local.get $sign) (i16x8.narrow_i32x4_s (local.get $a) (local.get $b)))
          (i16x8.narrow_i32x4_s
          (i32x4.sub
            (i32x4.dot_i16x8_s
              (v128.and
                (f32x4.add
                  (local.get $x)
                  (i32x4.add
                    (i32x4.max_s (v128.and (local.get $x) (local.get $exponent)) (local.get $least))
                    (local.get $thirteen)))
                (local.get $allButSign))
              (local.get $weights))
            (local.get $excess))
          (i32x4.sub
            (i32x4.dot_i16x8_s
              (v128.and
                (f32x4.add
                  (local.get $y)
                  (i32x4.add
                    (i32x4.max_s (v128.and (local.get $y) (local.get $exponent)) (local.get $least))
                    (local.get $thirteen)))
                (local.get $allButSign))
              (local.get $weights))
            (local.get $excess)))))
      (local.set $to (i32.add (local.get $to) (i32.const 16)))
      (br_if $next
        (i32.lt_u (local.tee $from (i32.add (local.get $from) (i32.const 32))) (local.get $end)))))

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
