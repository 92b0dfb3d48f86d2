# The guest that ProbeKVM runs, in long mode at address 0x1000, with the first
# gigabyte mapped one to one. Each step is reported by OUT to port 0x10. The
# bytes in ../kvm_linux_amd64.go are this file's; TestGuestCode compares them.
	.code64
	.set	base, 0x1000
	.set	idt, 0x3000
start:
	mov	$'A', %al		# the guest runs at all
	out	%al, $0x10

	# A global descriptor table of its own.
	lgdt	gdtr(%rip)
	mov	$0x10, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	pushq	$8
	lea	1f(%rip), %rax
	push	%rax
	lretq
1:	mov	$'B', %al
	out	%al, $0x10

	# An interrupt descriptor table of its own: 32 gates, all to handler.
	mov	$idt, %edi
	xor	%ecx, %ecx
	lea	handler(%rip), %rax
2:	mov	%ax, (%rdi)
	movw	$8, 2(%rdi)
	movw	$0x8e00, 4(%rdi)
	movw	$0, 6(%rdi)		# the handler is below 64 KiB
	movq	$0, 8(%rdi)
	add	$16, %rdi
	inc	%ecx
	cmp	$32, %ecx
	jb	2b
	lidt	idtr(%rip)
	mov	$'C', %al
	out	%al, $0x10

	int3				# an exception through it, and back
	cmp	$1, %ebx
	jne	dead
	mov	$'D', %al
	out	%al, $0x10

	movl	$2, %ebp		# how many bytes the handler is to skip
	ud2				# a fault, where int3 is a trap
	cmp	$2, %ebx
	jne	dead
	mov	$'Z', %al
	out	%al, $0x10
	hlt
dead:
	mov	$'!', %al
	out	%al, $0x10
	hlt

handler:
	inc	%ebx
	add	%rbp, (%rsp)
	iretq

	.balign	8
gdt:	.quad	0, 0x00af9b000000ffff, 0x00cf93000000ffff
gdtr:	.word	23
	.quad	base + gdt - start
idtr:	.word	511
	.quad	idt
