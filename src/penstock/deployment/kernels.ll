; How the trees of a forest are computed, for any forest and any processor: LLVM makes vectors of eight
; lanes of what the processor has. The forest is data in arrays; see forest.py and compiled.py.
;
; @few walks one row at a time, eight trees beside each other. @many takes eight rows at a time, node by
; node: every tree keeps a bit for each of its up to 64 leaves, a node that says no clears the bits of
; the leaves on its left, and the first bit that is left is the leaf reached (QuickScorer, Lucchese and
; others, SIGIR 2015). No branch depends on a row's values but the one that ends a feature's nodes.

%model = type {
  i64,    ; 0: features
  i64,    ; 1: whether anything is done to the values before the trees
  ptr,    ; 2: fill, double per feature
  ptr,    ; 3: mean
  ptr,    ; 4: scale
  i64,    ; 5: whether values are rounded to float32
  i64,    ; 6: trees, filled up to a multiple of eight
  ptr,    ; 7: roots, i32 per tree
  ptr,    ; 8: threshold, double per node
  ptr,    ; 9: feature, i32 per node, negative where a missing value means no
  ptr,    ; 10: left, i32 per node
  ptr,    ; 11: value, double per node
  i64,    ; 12: trees, not filled up
  i64,    ; 13: groups of nodes
  ptr,    ; 14: group: feature, whether a missing value means no, first node, node after the last
  ptr,    ; 15: threshold, growing within a group
  ptr,    ; 16: tree of the node, i32
  ptr,    ; 17: the bits that a no leaves, i64
  ptr,    ; 18: value of each leaf, 64 doubles per tree
  double, ; 19: base
  double, ; 20: slope
  i64     ; 21: link: 0 the sum, 1 sigmoid, 2 exponential
}

declare <8 x double> @llvm.masked.gather.v8f64.v8p0(<8 x ptr>, i32, <8 x i1>, <8 x double>)
declare <8 x i32> @llvm.masked.gather.v8i32.v8p0(<8 x ptr>, i32, <8 x i1>, <8 x i32>)
declare void @llvm.masked.store.v8f64.p0(<8 x double>, ptr, i32, <8 x i1>)
declare <8 x i64> @llvm.cttz.v8i64(<8 x i64>, i1)
declare <8 x i64> @llvm.umin.v8i64(<8 x i64>, <8 x i64>)
declare double @llvm.vector.reduce.fadd.v8f64(double, <8 x double>)
declare double @llvm.exp.f64(double)

; Rows as the trees see them: missing values filled, centred, scaled, rounded. Returns where they are.
define private ptr @prepare(ptr noalias %x, i64 %n, ptr noalias %m, ptr noalias %rows) #0 {
entry:
  %w.p = getelementptr %model, ptr %m, i64 0, i32 0
  %w = load i64, ptr %w.p
  %needed.p = getelementptr %model, ptr %m, i64 0, i32 1
  %needed = load i64, ptr %needed.p
  %any = icmp ne i64 %needed, 0
  br i1 %any, label %begin, label %plain
plain:
  ret ptr %x
begin:
  %fill.p = getelementptr %model, ptr %m, i64 0, i32 2
  %fill = load ptr, ptr %fill.p
  %mean.p = getelementptr %model, ptr %m, i64 0, i32 3
  %mean = load ptr, ptr %mean.p
  %scale.p = getelementptr %model, ptr %m, i64 0, i32 4
  %scale = load ptr, ptr %scale.p
  %rounded.p = getelementptr %model, ptr %m, i64 0, i32 5
  %rounded = load i64, ptr %rounded.p
  %rounds = icmp ne i64 %rounded, 0
  br label %row
row:
  %r = phi i64 [ 0, %begin ], [ %r.next, %row.end ]
  %start = mul i64 %r, %w
  br label %value
value:
  %c = phi i64 [ 0, %row ], [ %c.next, %value ]
  %at = add i64 %start, %c
  %xp = getelementptr double, ptr %x, i64 %at
  %v = load double, ptr %xp
  %fp = getelementptr double, ptr %fill, i64 %c
  %f = load double, ptr %fp
  %mp = getelementptr double, ptr %mean, i64 %c
  %mu = load double, ptr %mp
  %sp = getelementptr double, ptr %scale, i64 %c
  %s = load double, ptr %sp
  %missing = fcmp uno double %v, %v
  %filled = select i1 %missing, double %f, double %v
  %centred = fsub double %filled, %mu
  %scaled = fdiv double %centred, %s
  %short = fptrunc double %scaled to float
  %long = fpext float %short to double
  %seen = select i1 %rounds, double %long, double %scaled
  %op = getelementptr double, ptr %rows, i64 %at
  store double %seen, ptr %op
  %c.next = add i64 %c, 1
  %c.more = icmp ult i64 %c.next, %w
  br i1 %c.more, label %value, label %row.end
row.end:
  %r.next = add i64 %r, 1
  %r.more = icmp ult i64 %r.next, %n
  br i1 %r.more, label %row, label %done
done:
  ret ptr %rows
}

; Sums into predictions, in place.
define private void @finish(ptr noalias %out, i64 %n, ptr noalias %m) #0 {
entry:
  %base.p = getelementptr %model, ptr %m, i64 0, i32 19
  %base = load double, ptr %base.p
  %slope.p = getelementptr %model, ptr %m, i64 0, i32 20
  %slope = load double, ptr %slope.p
  %link.p = getelementptr %model, ptr %m, i64 0, i32 21
  %link = load i64, ptr %link.p
  br label %one
one:
  %r = phi i64 [ 0, %entry ], [ %r.next, %next ]
  %p = getelementptr double, ptr %out, i64 %r
  %sum = load double, ptr %p
  %total = fadd double %sum, %base
  switch i64 %link, label %next [ i64 1, label %sigmoid
                                  i64 2, label %exponential ]
sigmoid:
  %sloped = fmul double %total, %slope
  %negative = fneg double %sloped
  %e = call double @llvm.exp.f64(double %negative)
  %below = fadd double %e, 1.0
  %probability = fdiv double 1.0, %below
  br label %next
exponential:
  %power = call double @llvm.exp.f64(double %total)
  br label %next
next:
  %y = phi double [ %total, %one ], [ %probability, %sigmoid ], [ %power, %exponential ]
  store double %y, ptr %p
  %r.next = add i64 %r, 1
  %r.more = icmp ult i64 %r.next, %n
  br i1 %r.more, label %one, label %done
done:
  ret void
}

; groups: the nodes of a feature, the smallest threshold first: once no row is above one, none is above the rest.
define private void @bits(ptr noalias %x, i64 %n, i64 %w, ptr noalias %groups, i64 %ng, ptr noalias %thr, ptr noalias %tree, ptr noalias %mask, ptr noalias %leaf, i64 %nt, ptr noalias %alive, ptr noalias %out) #0 {
entry:
  %w0 = insertelement <8 x i64> poison, i64 %w, i32 0
  %ws = shufflevector <8 x i64> %w0, <8 x i64> poison, <8 x i32> zeroinitializer
  br label %block
block:
  %b = phi i64 [ 0, %entry ], [ %b.next, %store ]
  %left = sub i64 %n, %b
  %last = sub i64 %left, 1
  %l0 = insertelement <8 x i64> poison, i64 %last, i32 0
  %lasts = shufflevector <8 x i64> %l0, <8 x i64> poison, <8 x i32> zeroinitializer
  %lane = call <8 x i64> @llvm.umin.v8i64(<8 x i64> <i64 0,i64 1,i64 2,i64 3,i64 4,i64 5,i64 6,i64 7>, <8 x i64> %lasts)
  %b0 = insertelement <8 x i64> poison, i64 %b, i32 0
  %bs = shufflevector <8 x i64> %b0, <8 x i64> poison, <8 x i32> zeroinitializer
  %rows = add <8 x i64> %bs, %lane
  %offs = mul <8 x i64> %rows, %ws
  br label %init
init:
  %ti = phi i64 [ 0, %block ], [ %ti.next, %init ]
  %pi = getelementptr <8 x i64>, ptr %alive, i64 %ti
  store <8 x i64> splat (i64 -1), ptr %pi, align 8
  %ti.next = add i64 %ti, 1
  %ti.more = icmp ult i64 %ti.next, %nt
  br i1 %ti.more, label %init, label %group
group:
  %g = phi i64 [ 0, %init ], [ %g.next, %group.end ]
  %gp = getelementptr [4 x i64], ptr %groups, i64 %g
  %f = load i64, ptr %gp
  %rp = getelementptr i64, ptr %gp, i64 1
  %right = load i64, ptr %rp
  %sp = getelementptr i64, ptr %gp, i64 2
  %begin = load i64, ptr %sp
  %ep = getelementptr i64, ptr %gp, i64 3
  %end = load i64, ptr %ep
  %f0 = insertelement <8 x i64> poison, i64 %f, i32 0
  %fs = shufflevector <8 x i64> %f0, <8 x i64> poison, <8 x i32> zeroinitializer
  %at = add <8 x i64> %offs, %fs
  %vp = getelementptr double, ptr %x, <8 x i64> %at
  %v = call <8 x double> @llvm.masked.gather.v8f64.v8p0(<8 x ptr> %vp, i32 8, <8 x i1> splat (i1 true), <8 x double> poison)
  %nan = fcmp uno <8 x double> %v, %v
  %isr = icmp ne i64 %right, 0
  %r0 = insertelement <8 x i1> poison, i1 %isr, i32 0
  %rs = shufflevector <8 x i1> %r0, <8 x i1> poison, <8 x i32> zeroinitializer
  %force = and <8 x i1> %nan, %rs
  br label %node
node:
  %j = phi i64 [ %begin, %group ], [ %j.next, %hit ]
  %tp = getelementptr double, ptr %thr, i64 %j
  %t = load double, ptr %tp
  %t0 = insertelement <8 x double> poison, double %t, i32 0
  %ts = shufflevector <8 x double> %t0, <8 x double> poison, <8 x i32> zeroinitializer
  %gt = fcmp ogt <8 x double> %v, %ts
  %c = or <8 x i1> %gt, %force
  %ci = bitcast <8 x i1> %c to i8
  %any = icmp ne i8 %ci, 0
  br i1 %any, label %hit, label %group.end
hit:
  %trp = getelementptr i32, ptr %tree, i64 %j
  %tr = load i32, ptr %trp
  %tr64 = zext i32 %tr to i64
  %mp = getelementptr i64, ptr %mask, i64 %j
  %m = load i64, ptr %mp
  %m0 = insertelement <8 x i64> poison, i64 %m, i32 0
  %ms = shufflevector <8 x i64> %m0, <8 x i64> poison, <8 x i32> zeroinitializer
  %ap = getelementptr <8 x i64>, ptr %alive, i64 %tr64
  %a = load <8 x i64>, ptr %ap, align 8
  %na = and <8 x i64> %a, %ms
  %sa = select <8 x i1> %c, <8 x i64> %na, <8 x i64> %a
  store <8 x i64> %sa, ptr %ap, align 8
  %j.next = add i64 %j, 1
  %j.more = icmp ult i64 %j.next, %end
  br i1 %j.more, label %node, label %group.end
group.end:
  %g.next = add i64 %g, 1
  %g.more = icmp ult i64 %g.next, %ng
  br i1 %g.more, label %group, label %sum
sum:
  %k = phi i64 [ 0, %group.end ], [ %k.next, %sum ]
  %acc = phi <8 x double> [ zeroinitializer, %group.end ], [ %acc.next, %sum ]
  %kp = getelementptr <8 x i64>, ptr %alive, i64 %k
  %ka = load <8 x i64>, ptr %kp, align 8
  %ix = call <8 x i64> @llvm.cttz.v8i64(<8 x i64> %ka, i1 true)
  %kb = shl i64 %k, 6
  %k0 = insertelement <8 x i64> poison, i64 %kb, i32 0
  %ks = shufflevector <8 x i64> %k0, <8 x i64> poison, <8 x i32> zeroinitializer
  %li = add <8 x i64> %ks, %ix
  %lp = getelementptr double, ptr %leaf, <8 x i64> %li
  %lv = call <8 x double> @llvm.masked.gather.v8f64.v8p0(<8 x ptr> %lp, i32 8, <8 x i1> splat (i1 true), <8 x double> poison)
  %acc.next = fadd <8 x double> %acc, %lv
  %k.next = add i64 %k, 1
  %k.more = icmp ult i64 %k.next, %nt
  br i1 %k.more, label %sum, label %store
store:
  %n0 = insertelement <8 x i64> poison, i64 %left, i32 0
  %nsp = shufflevector <8 x i64> %n0, <8 x i64> poison, <8 x i32> zeroinitializer
  %live = icmp ult <8 x i64> <i64 0,i64 1,i64 2,i64 3,i64 4,i64 5,i64 6,i64 7>, %nsp
  %op = getelementptr double, ptr %out, i64 %b
  call void @llvm.masked.store.v8f64.p0(<8 x double> %acc.next, ptr %op, i32 8, <8 x i1> %live)
  %b.next = add i64 %b, 8
  %b.more = icmp ult i64 %b.next, %n
  br i1 %b.more, label %block, label %done
done:
  ret void
}

; Eight trees step down together until none of them moves: a leaf leads to itself.
define private void @walk(ptr noalias %x, i64 %n, i64 %w, ptr noalias %roots, i64 %nt, ptr noalias %thr, ptr noalias %feat, ptr noalias %lefts, ptr noalias %leaf, ptr noalias %out) #0 {
entry:
  br label %row
row:
  %r = phi i64 [ 0, %entry ], [ %r.next, %row.end ]
  %ro = mul i64 %r, %w
  %rp = getelementptr double, ptr %x, i64 %ro
  br label %tree
tree:
  %t = phi i64 [ 0, %row ], [ %t.next, %tree.end ]
  %acc = phi <8 x double> [ zeroinitializer, %row ], [ %acc.next, %tree.end ]
  %rtp = getelementptr i32, ptr %roots, i64 %t
  %start = load <8 x i32>, ptr %rtp, align 4
  br label %step
step:
  %i = phi <8 x i32> [ %start, %tree ], [ %i.next, %step ]
  %tp = getelementptr double, ptr %thr, <8 x i32> %i
  %th = call <8 x double> @llvm.masked.gather.v8f64.v8p0(<8 x ptr> %tp, i32 8, <8 x i1> splat (i1 true), <8 x double> poison)
  %fp = getelementptr i32, ptr %feat, <8 x i32> %i
  %ff = call <8 x i32> @llvm.masked.gather.v8i32.v8p0(<8 x ptr> %fp, i32 4, <8 x i1> splat (i1 true), <8 x i32> poison)
  %lp = getelementptr i32, ptr %lefts, <8 x i32> %i
  %l = call <8 x i32> @llvm.masked.gather.v8i32.v8p0(<8 x ptr> %lp, i32 4, <8 x i1> splat (i1 true), <8 x i32> poison)
  %f = and <8 x i32> %ff, splat (i32 2147483647)
  %mr = icmp slt <8 x i32> %ff, zeroinitializer
  %vp = getelementptr double, ptr %rp, <8 x i32> %f
  %v = call <8 x double> @llvm.masked.gather.v8f64.v8p0(<8 x ptr> %vp, i32 8, <8 x i1> splat (i1 true), <8 x double> poison)
  %gt = fcmp ogt <8 x double> %v, %th
  %nan = fcmp uno <8 x double> %v, %v
  %nr = and <8 x i1> %nan, %mr
  %go = or <8 x i1> %gt, %nr
  %d = zext <8 x i1> %go to <8 x i32>
  %i.next = add <8 x i32> %l, %d
  %mv = icmp ne <8 x i32> %i.next, %i
  %mvi = bitcast <8 x i1> %mv to i8
  %more = icmp ne i8 %mvi, 0
  br i1 %more, label %step, label %tree.end
tree.end:
  %vlp = getelementptr double, ptr %leaf, <8 x i32> %i.next
  %lv = call <8 x double> @llvm.masked.gather.v8f64.v8p0(<8 x ptr> %vlp, i32 8, <8 x i1> splat (i1 true), <8 x double> poison)
  %acc.next = fadd <8 x double> %acc, %lv
  %t.next = add i64 %t, 8
  %t.more = icmp ult i64 %t.next, %nt
  br i1 %t.more, label %tree, label %row.end
row.end:
  %s = call reassoc double @llvm.vector.reduce.fadd.v8f64(double 0.0, <8 x double> %acc.next)
  %op = getelementptr double, ptr %out, i64 %r
  store double %s, ptr %op
  %r.next = add i64 %r, 1
  %r.more = icmp ult i64 %r.next, %n
  br i1 %r.more, label %row, label %done
done:
  ret void
}

; Rows one by one. out: double[n]; rows: double[n * features], used where values are prepared.
define void @few(ptr noalias %x, i64 %n, ptr noalias %m, ptr %out, ptr %rows, ptr %alive) #0 {
  %seen = call ptr @prepare(ptr %x, i64 %n, ptr %m, ptr %rows)
  %w.p = getelementptr %model, ptr %m, i64 0, i32 0
  %w = load i64, ptr %w.p
  %trees.p = getelementptr %model, ptr %m, i64 0, i32 6
  %trees = load i64, ptr %trees.p
  %roots.p = getelementptr %model, ptr %m, i64 0, i32 7
  %roots = load ptr, ptr %roots.p
  %threshold.p = getelementptr %model, ptr %m, i64 0, i32 8
  %threshold = load ptr, ptr %threshold.p
  %feature.p = getelementptr %model, ptr %m, i64 0, i32 9
  %feature = load ptr, ptr %feature.p
  %left.p = getelementptr %model, ptr %m, i64 0, i32 10
  %left = load ptr, ptr %left.p
  %value.p = getelementptr %model, ptr %m, i64 0, i32 11
  %value = load ptr, ptr %value.p
  call void @walk(ptr %seen, i64 %n, i64 %w, ptr %roots, i64 %trees, ptr %threshold, ptr %feature, ptr %left, ptr %value, ptr %out)
  call void @finish(ptr %out, i64 %n, ptr %m)
  ret void
}

; Rows eight at a time. alive: i64[8 * trees].
define void @many(ptr noalias %x, i64 %n, ptr noalias %m, ptr %out, ptr %rows, ptr %alive) #0 {
  %seen = call ptr @prepare(ptr %x, i64 %n, ptr %m, ptr %rows)
  %w.p = getelementptr %model, ptr %m, i64 0, i32 0
  %w = load i64, ptr %w.p
  %trees.p = getelementptr %model, ptr %m, i64 0, i32 12
  %trees = load i64, ptr %trees.p
  %groups.p = getelementptr %model, ptr %m, i64 0, i32 13
  %groups = load i64, ptr %groups.p
  %group.p = getelementptr %model, ptr %m, i64 0, i32 14
  %group = load ptr, ptr %group.p
  %threshold.p = getelementptr %model, ptr %m, i64 0, i32 15
  %threshold = load ptr, ptr %threshold.p
  %tree.p = getelementptr %model, ptr %m, i64 0, i32 16
  %tree = load ptr, ptr %tree.p
  %mask.p = getelementptr %model, ptr %m, i64 0, i32 17
  %mask = load ptr, ptr %mask.p
  %leaves.p = getelementptr %model, ptr %m, i64 0, i32 18
  %leaves = load ptr, ptr %leaves.p
  call void @bits(ptr %seen, i64 %n, i64 %w, ptr %group, i64 %groups, ptr %threshold, ptr %tree, ptr %mask, ptr %leaves, i64 %trees, ptr %alive, ptr %out)
  call void @finish(ptr %out, i64 %n, ptr %m)
  ret void
}

attributes #0 = { nounwind "prefer-vector-width"="512" "min-legal-vector-width"="512" }
