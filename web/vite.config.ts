import { constants } from "node:zlib";
import tailwindcss from "@tailwindcss/vite";
import { tanstackRouter } from "@tanstack/router-plugin/vite";
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";
import { compression, defineAlgorithm } from "vite-plugin-compression2";

/** The running Echo that `npm run dev` speaks to. */
const api = process.env.ECHO_URL ?? "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [
    tanstackRouter({
      target: "react",
      autoCodeSplitting: true,
      routesDirectory: "src/routes",
      generatedRouteTree: "src/routeTree.gen.ts",
    }),
    react(),
    tailwindcss(),
    // Made once here, so that serving a file costs no processor.
    compression({
      include: /\.(js|css|html|svg|webmanifest)$/,
      threshold: 512,
      algorithms: [
        defineAlgorithm("gzip", { level: 9 }),
        defineAlgorithm("brotliCompress", { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } }),
      ],
    }),
  ],
  resolve: { alias: { "@": new URL("./src", import.meta.url).pathname } },
  build: {
    target: "es2023",
    assetsInlineLimit: 0, // the Content-Security-Policy permits no data: scripts and styles
    chunkSizeWarningLimit: 600,
    reportCompressedSize: false,
  },
  server: {
    host: "127.0.0.1",
    port: 5173,
    strictPort: true, // the running Echo is told of it (docs/web.md)
    proxy: {
      "^/(api|auth/v1|plugins|docs|openapi.json)": { target: api },
      "/ws": { target: api.replace(/^http/, "ws"), ws: true },
    },
  },
});
