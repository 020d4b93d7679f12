import java.util.*; import java.util.stream.*;
public class Main {
  static long fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
  public static void main(String[] a) throws Exception {
    Thread[] t = new Thread[4]; long[] r = new long[4];
    for (int i = 0; i < 4; i++) { int k = i; t[i] = new Thread(() -> r[k] = fib(20 + k)); t[i].start(); }
    for (Thread x : t) x.join();
    System.out.println(Arrays.toString(r) + IntStream.range(0, 99).boxed().collect(Collectors.summingInt(x -> x)));
    try { Object o = null; o.hashCode(); } catch (NullPointerException e) { System.out.println("null"); }
    try { int z = a.length; System.out.println(1 / z); } catch (ArithmeticException e) { System.out.println(e.getMessage()); }
    System.exit(6);
  }
}
