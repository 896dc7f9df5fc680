import { QueryClient } from "@tanstack/react-query";
import { asProblem } from "./problem";

const TRIES = 4;

export const queryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 30_000,
      networkMode: "always", // without a network a sentence helps more than a spinner
      retry: (failures, error) => asProblem(error).temporary && failures < TRIES,
      retryDelay: (failures, error) =>
        (asProblem(error).retryAfterS ?? 0) * 1000 ||
        Math.min(8000, 500 * 2 ** failures) * (0.5 + Math.random()),
    },
    mutations: { retry: false, networkMode: "always" },
  },
});
